//! The orders of a file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, ensure};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::catalogue::Catalogue;

/// A line of the file. The other columns are not needed.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    invoice: String,
    customer: String,
    sku: String,
    quantity: u32,
    unit_price_minor: i64,
}

/// An order to be placed: the lines of an invoice, merged by SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) invoice: String,
    pub(super) customer: String,
    pub(super) lines: BTreeMap<String, u32>,
    /// What the lines cost at the catalogue's prices, in minor units.
    pub(super) catalogue_minor: i64,
}

/// What the file says, as far as it is replayed.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    pub(super) placed: Vec<Order>,
    /// Lines before merging.
    pub(super) lines: u64,
    /// What the lines cost then, in minor units.
    pub(super) historic_minor: i64,
    /// What they cost at the catalogue's prices.
    pub(super) catalogue_minor: i64,
    /// How many lines had another price than the catalogue's.
    pub(super) other_price: u64,
    /// Units of every SKU.
    pub(super) units: BTreeMap<String, i64>,
}

impl Orders {
    /// Reads at most `limit` orders of a `.csv` or `.csv.gz` file.
    ///
    /// # Errors
    /// The file cannot be read, or names a product that the catalogue does not have.
    pub(super) fn read(file: &Path, limit: usize, catalogue: &Catalogue) -> anyhow::Result<Self> {
        let open = || {
            let raw = BufReader::new(File::open(file)?);
            let packed = file.extension().is_some_and(|extension| extension == "gz");
            let reader: Box<dyn Read> =
                if packed { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
            Self::parse(reader, limit, catalogue)
        };
        open().with_context(|| format!("cannot replay {}", file.display()))
    }

    /// The lines of an order stand together.
    fn parse(reader: impl Read, limit: usize, catalogue: &Catalogue) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for line in csv::Reader::from_reader(reader).deserialize() {
            let line: Line = line?;
            let started = all.placed.last().is_some_and(|order| order.invoice == line.invoice);
            if !started {
                if all.placed.len() == limit {
                    break;
                }
                all.placed.push(Order {
                    invoice: line.invoice.clone(),
                    customer: line.customer.clone(),
                    lines: BTreeMap::new(),
                    catalogue_minor: 0,
                });
            }
            all.add(&line, catalogue)?;
        }
        ensure!(!all.placed.is_empty(), "there are no orders in it");
        Ok(all)
    }

    fn add(&mut self, line: &Line, catalogue: &Catalogue) -> anyhow::Result<()> {
        let product = catalogue.products.get(&line.sku).with_context(|| {
            format!(
                "invoice {} has the SKU {}, which is not in the catalogue",
                line.invoice, line.sku
            )
        })?;
        let quantity = i64::from(line.quantity);
        self.lines += 1;
        self.historic_minor += quantity * line.unit_price_minor;
        self.catalogue_minor += quantity * product.unit_price_minor;
        self.other_price += u64::from(line.unit_price_minor != product.unit_price_minor);
        *self.units.entry(line.sku.clone()).or_default() += quantity;
        if let Some(order) = self.placed.last_mut() {
            *order.lines.entry(line.sku.clone()).or_default() += line.quantity;
            order.catalogue_minor += quantity * product.unit_price_minor;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HEADER: &str = "invoice,time,customer,country,sku,quantity,unit_price_minor\n";

    fn catalogue() -> Catalogue {
        Catalogue::parse(b"sku,name,unit_price_minor\nA,a,10\nB,b,7\n").unwrap()
    }

    fn parse(rows: &str, limit: usize) -> anyhow::Result<Orders> {
        Orders::parse(format!("{HEADER}{rows}").as_bytes(), limit, &catalogue())
    }

    #[test]
    fn the_lines_of_an_invoice_are_one_order_and_a_sku_is_in_it_once() {
        let rows = "1,t,7,UK,A,2,10\n1,t,7,UK,B,1,7\n1,t,7,UK,A,3,9\n2,t,8,UK,B,1,7\n";
        let all = parse(rows, usize::MAX).unwrap();
        assert_eq!(all.placed.len(), 2);
        assert_eq!(all.placed[0].lines, BTreeMap::from([("A".to_owned(), 5), ("B".to_owned(), 1)]));
        assert_eq!(all.placed[1].customer, "8");
        assert_eq!((all.placed[0].catalogue_minor, all.placed[1].catalogue_minor), (57, 7));
        assert_eq!(all.units, BTreeMap::from([("A".to_owned(), 5), ("B".to_owned(), 2)]));
        assert_eq!((all.lines, all.other_price), (4, 1));
        assert_eq!((all.historic_minor, all.catalogue_minor), (20 + 7 + 27 + 7, 50 + 14));
    }

    #[test]
    fn a_limit_counts_orders_and_only_they_count() {
        let all = parse("1,t,7,UK,A,2,10\n1,t,7,UK,B,1,7\n2,t,8,UK,B,1,7\n", 1).unwrap();
        assert_eq!((all.placed.len(), all.lines, all.units["B"]), (1, 2, 1));
    }

    #[test]
    fn a_product_that_is_not_in_the_catalogue_is_named() {
        let error = parse("1,t,7,UK,C,2,10\n", 9).unwrap_err().to_string();
        assert!(error.contains("SKU C"), "{error}");
        assert!(parse("", 9).is_err());
    }

    #[test]
    fn a_packed_file_is_unpacked() {
        let dir = std::env::temp_dir();
        let file = dir.join(format!("portolan-orders-{}.csv.gz", std::process::id()));
        let mut packer = flate2::write::GzEncoder::new(
            File::create(&file).unwrap(),
            flate2::Compression::fast(),
        );
        packer.write_all(format!("{HEADER}1,t,7,UK,A,2,10\n").as_bytes()).unwrap();
        packer.finish().unwrap();
        let all = Orders::read(&file, usize::MAX, &catalogue()).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(all.placed[0].lines["A"], 2);
    }
}
