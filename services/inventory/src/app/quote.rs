use std::collections::{HashMap, HashSet};

use portolan_kernel::Money;
use portolan_runtime::database;
use sqlx::PgPool;

use super::Error;
use crate::{domain::Sku, store};

/// The most SKUs in one quote: the most lines of an order.
pub const MAX_QUOTE: usize = 1_000;

/// What things cost now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quote {
    /// SKU and price of one, in the order asked, each once.
    pub prices: Vec<(String, Money)>,
    /// What is not in the catalogue, in the order asked, each once.
    pub unknown: Vec<String>,
}

/// Prices products.
///
/// # Errors
/// More than [`MAX_QUOTE`] of them, or the database's.
pub async fn quote(pool: &PgPool, skus: Vec<String>) -> Result<Quote, Error> {
    if skus.len() > MAX_QUOTE {
        return Err(Error::field("skus", "must be at most 1000"));
    }
    // What cannot be a SKU need not be asked for, and could not: PostgreSQL refuses NUL in text.
    let possible: Vec<String> =
        skus.iter().filter(|sku| sku.parse::<Sku>().is_ok()).cloned().collect();
    let mut conn = database::acquire(pool).await?;
    let known: HashMap<String, Money> =
        store::quote(&mut conn, &possible).await?.into_iter().collect();
    Ok(arrange(skus, &known))
}

fn arrange(skus: Vec<String>, known: &HashMap<String, Money>) -> Quote {
    let mut seen = HashSet::new();
    let mut quote = Quote::default();
    for sku in skus {
        if !seen.insert(sku.clone()) {
            continue;
        }
        match known.get(&sku) {
            Some(price) => quote.prices.push((sku, *price)),
            None => quote.unknown.push(sku),
        }
    }
    quote
}

#[cfg(test)]
mod tests {
    use portolan_kernel::Currency;

    use super::*;

    #[test]
    fn each_sku_is_answered_once_and_in_the_order_asked() {
        let price = Money::new(85, Currency::GBP);
        let known = HashMap::from([("a".to_owned(), price), ("b".to_owned(), price)]);
        let asked = ["z", "b", "y", "a", "b", "z"].map(str::to_owned).to_vec();
        let quote = arrange(asked, &known);
        assert_eq!(quote.prices, [("b".to_owned(), price), ("a".to_owned(), price)]);
        assert_eq!(quote.unknown, ["z", "y"]);
    }
}
