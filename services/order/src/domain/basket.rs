//! What a customer wants to buy, checked and brought into one canonical form.

use std::collections::BTreeMap;

use portolan_kernel::{Currency, FieldViolation, Money, MoneyError};

/// Lines of one order at most, after duplicates are merged.
pub const MAX_LINES: usize = 1_000;
/// Pieces of one product at most, after duplicates are merged.
pub const MAX_QUANTITY: u32 = 100_000;

const MAX_SKU: usize = 64;

/// The wanted quantities by SKU: duplicates merged, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basket(BTreeMap<String, u32>);

/// A line with the price inventory quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedLine {
    /// The product.
    pub sku: String,
    /// How many.
    pub quantity: u32,
    /// The price of one, in minor units.
    pub unit_price_minor: i64,
}

/// Why lines are no basket, or a basket has no price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BasketError {
    /// Fields of the request are unacceptable.
    #[error("the lines are not acceptable")]
    Fields(Vec<FieldViolation>),
    /// Products that are not in the catalogue.
    #[error("unknown products: {}", .0.join(", "))]
    UnknownSkus(Vec<String>),
    /// The amounts do not add up.
    #[error("no total")]
    Total(#[source] MoneyError),
}

impl Basket {
    /// Checks and merges lines in the order the customer wrote them.
    ///
    /// # Errors
    /// [`BasketError::Fields`] naming every offending field.
    pub fn new(lines: &[(String, u32)]) -> Result<Self, BasketError> {
        let mut merged: BTreeMap<String, u32> = BTreeMap::new();
        let mut violations = Vec::new();
        for (index, (sku, quantity)) in lines.iter().enumerate() {
            check_sku(index, sku, &mut violations);
            let total = merged.entry(sku.clone()).or_insert(0);
            *total = total.saturating_add(*quantity);
            if *quantity == 0 || *total > MAX_QUANTITY {
                violations.push(FieldViolation {
                    field: format!("lines[{index}].quantity"),
                    description: format!("must be 1 to {MAX_QUANTITY} after merging duplicates"),
                });
            }
        }
        if merged.is_empty() || merged.len() > MAX_LINES {
            violations.push(FieldViolation {
                field: "lines".to_owned(),
                description: format!("must be 1 to {MAX_LINES} lines after merging duplicates"),
            });
        }
        if violations.is_empty() { Ok(Self(merged)) } else { Err(BasketError::Fields(violations)) }
    }

    /// The products, in byte order.
    pub fn skus(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The wanted quantities, in byte order of the products.
    pub fn lines(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(sku, quantity)| (sku.as_str(), *quantity))
    }

    /// The lines with their prices, and the sum.
    ///
    /// # Errors
    /// A product without a price, prices of different currencies, or a sum that does not fit.
    pub fn price(
        &self,
        prices: &BTreeMap<String, Money>,
    ) -> Result<(Vec<PricedLine>, Money), BasketError> {
        let unknown: Vec<String> =
            self.skus().filter(|sku| !prices.contains_key(*sku)).map(str::to_owned).collect();
        if !unknown.is_empty() {
            return Err(BasketError::UnknownSkus(unknown));
        }
        let mut lines = Vec::with_capacity(self.0.len());
        let mut total: Option<Money> = None;
        for (sku, quantity) in self.lines() {
            let Some(price) = prices.get(sku) else { continue };
            let cost = price.checked_mul(quantity).map_err(BasketError::Total)?;
            total = Some(match total {
                Some(sum) => sum.checked_add(cost).map_err(BasketError::Total)?,
                None => cost,
            });
            lines.push(PricedLine {
                sku: sku.to_owned(),
                quantity,
                unit_price_minor: price.minor_units,
            });
        }
        Ok((lines, total.unwrap_or(Money::new(0, Currency::GBP))))
    }
}

fn check_sku(index: usize, sku: &str, violations: &mut Vec<FieldViolation>) {
    let printable = sku.bytes().all(|byte| byte.is_ascii_graphic());
    if sku.is_empty() || sku.len() > MAX_SKU || !printable {
        violations.push(FieldViolation {
            field: format!("lines[{index}].sku"),
            description: format!("must be 1 to {MAX_SKU} printable ASCII characters"),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(sku: &str, quantity: u32) -> (String, u32) {
        (sku.to_owned(), quantity)
    }

    #[test]
    fn duplicates_are_merged_and_sorted() {
        let basket = Basket::new(&[line("b", 1), line("a", 2), line("b", 3)]).unwrap();
        assert_eq!(basket.lines().collect::<Vec<_>>(), [("a", 2), ("b", 4)]);
    }

    #[test]
    fn offending_fields_are_named() {
        let error =
            Basket::new(&[line("a", 0), line("", 1), line("b", MAX_QUANTITY), line("b", 1)]);
        let Err(BasketError::Fields(violations)) = error else { panic!("{error:?}") };
        let fields: Vec<&str> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["lines[0].quantity", "lines[1].sku", "lines[3].quantity"]);
        assert!(Basket::new(&[]).is_err());
    }

    #[test]
    fn products_without_a_price_are_named() {
        let basket = Basket::new(&[line("a", 1), line("b", 1)]).unwrap();
        let prices = BTreeMap::from([("a".to_owned(), Money::new(5, Currency::GBP))]);
        assert_eq!(basket.price(&prices), Err(BasketError::UnknownSkus(vec!["b".to_owned()])));
    }

    proptest! {
        #[test]
        fn the_order_of_lines_does_not_matter(mut lines in proptest::collection::vec(("[a-e]", 1_u32..50), 1..20)) {
            let one = Basket::new(&lines).unwrap();
            lines.reverse();
            prop_assert_eq!(one, Basket::new(&lines).unwrap());
        }
    }
}
