use std::collections::HashSet;

use portolan_kernel::{Currency, FieldViolation, Money};

use super::Sku;

/// The most products in one import.
pub const MAX_IMPORT: usize = 1_000;
/// The highest price, so that the sum over the largest order fits into 64 bits.
const MAX_PRICE_MINOR: i64 = 1_000_000_000;
/// The largest stock of one SKU.
const MAX_QUANTITY: i64 = 1_000_000_000;

/// A product of the catalogue with its stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The stock keeping unit.
    pub sku: String,
    /// The name shown to customers.
    pub name: String,
    /// The price of one.
    pub price: Money,
    /// How many can be ordered now.
    pub available: i64,
}

/// A product to import, found acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedProduct {
    /// The stock keeping unit.
    pub sku: Sku,
    /// The name shown to customers.
    pub name: String,
    /// The price of one.
    pub price: Money,
    /// How many must be available afterwards, at least.
    pub quantity: i64,
}

/// Checks products to import: (SKU, name, price in minor units, currency, quantity) each.
///
/// # Errors
/// Every field at fault.
pub fn parse_import(
    products: impl IntoIterator<Item = (String, String, i64, String, i64)>,
) -> Result<Vec<ImportedProduct>, Vec<FieldViolation>> {
    let (mut good, mut bad, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (i, (sku, name, price, currency, quantity)) in products.into_iter().enumerate() {
        let mut complain = |field: &str, description: &str| {
            let field = format!("products[{i}].{field}");
            bad.push(FieldViolation { field, description: description.to_owned() });
        };
        if !seen.insert(sku.clone()) {
            complain("sku", "is there twice");
        }
        let sku = Sku::try_from(sku).map_err(|error| complain("sku", &error.to_string())).ok();
        if !acceptable_name(&name) {
            complain("name", "must be 1 to 200 printable characters");
        }
        if !(1..=MAX_PRICE_MINOR).contains(&price) {
            complain("price.minor_units", "must be from 1 to 1000000000");
        }
        let currency: Option<Currency> =
            currency.parse().map_err(|_| complain("price.currency", "must be three capitals")).ok();
        if !(0..=MAX_QUANTITY).contains(&quantity) {
            complain("quantity", "must be from 0 to 1000000000");
        }
        if let (Some(sku), Some(currency)) = (sku, currency) {
            good.push(ImportedProduct { sku, name, price: Money::new(price, currency), quantity });
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn acceptable_name(name: &str) -> bool {
    (1..=200).contains(&name.chars().count())
        && !name.trim().is_empty()
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(product: (&str, &str, i64, &str, i64)) -> Vec<String> {
        let (sku, name, price, currency, quantity) = product;
        let owned = (sku.to_owned(), name.to_owned(), price, currency.to_owned(), quantity);
        parse_import([owned]).map_or_else(
            |bad| bad.into_iter().map(|violation| violation.field).collect(),
            |_| vec![],
        )
    }

    #[test]
    fn an_import_names_every_field_at_fault() {
        assert_eq!(fields(("22197", "POPCORN HOLDER", 85, "GBP", 0)), [""; 0]);
        assert_eq!(
            fields(("", " ", 0, "gbp", -1)),
            ["sku", "name", "price.minor_units", "price.currency", "quantity"]
                .map(|field| format!("products[0].{field}"))
        );
        assert_eq!(fields(("x", "a\0b", 1, "GBP", 1)), ["products[0].name"]);
        assert_eq!(fields(("x", "x", i64::MAX, "GBP", i64::MAX)).len(), 2);
    }

    #[test]
    fn a_sku_comes_once() {
        let product = || ("x".to_owned(), "X".to_owned(), 1, "GBP".to_owned(), 1);
        let bad = parse_import([product(), product()]).unwrap_err();
        assert_eq!(bad[0].field, "products[1].sku");
    }
}
