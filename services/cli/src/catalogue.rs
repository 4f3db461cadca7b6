use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// A product of the catalogue file: the columns of the file, the price in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Product {
    pub sku: String,
    pub name: String,
    pub unit_price_minor: i64,
}

/// The products of a catalogue by SKU.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    pub products: BTreeMap<String, Product>,
}

/// The currency of the catalogue file, which names none.
pub(crate) const CURRENCY: &str = "GBP";

/// The catalogue that comes with Portolan (`data/README.md` has its origin and licence).
const BUILT_IN: &[u8] = include_bytes!("../../../data/catalogue.csv");

impl Catalogue {
    /// A catalogue file, or the one that comes with Portolan.
    ///
    /// # Errors
    /// The file cannot be read or is not a catalogue.
    pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Self::parse(BUILT_IN) };
        let bytes =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&bytes).with_context(|| format!("{}", file.display()))
    }

    /// Tells catalogues apart: a SHA-256 over products, names and prices.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for product in self.products.values() {
            let Product { sku, name, unit_price_minor } = product;
            hash.update(format!("{sku}\n{name}\n{unit_price_minor}\n"));
        }
        hex::encode(hash.finalize())
    }

    /// # Errors
    /// The text is not a catalogue: with the line at fault.
    pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut products = BTreeMap::new();
        for product in csv::Reader::from_reader(bytes).deserialize() {
            let product: Product = product?;
            ensure!(product.unit_price_minor > 0, "the price of {} is not positive", product.sku);
            let sku = product.sku.clone();
            ensure!(products.insert(sku, product).is_none(), "a product is there twice");
        }
        Ok(Self { products })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_commas_and_quotes_are_read() {
        let text = "sku,name,unit_price_minor\n23843,\"PAPER CRAFT , LITTLE \"\"BIRDIE\"\"\",208\n";
        let catalogue = Catalogue::parse(text.as_bytes()).unwrap();
        assert_eq!(catalogue.products["23843"].name, "PAPER CRAFT , LITTLE \"BIRDIE\"");
    }

    #[test]
    fn the_built_in_catalogue_is_whole_and_unlike_another() {
        let catalogue = Catalogue::read(None).unwrap();
        assert_eq!(catalogue.products.len(), 3_657);
        let total: i64 = catalogue.products.values().map(|p| p.unit_price_minor).sum();
        assert_eq!(total, 1_224_791);
        let mut other = catalogue.clone();
        other.products.pop_first();
        assert_ne!(catalogue.digest(), other.digest());
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        let text = "sku,name,unit_price_minor\n1,A,10\n2,B,cheap\n";
        let error = Catalogue::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line: 3"), "{error}");
        for bad in
            ["sku,name,unit_price_minor\n1,A,0\n", "sku,name,unit_price_minor\n1,A,1\n1,B,1\n"]
        {
            assert!(Catalogue::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
