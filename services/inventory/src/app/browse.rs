use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portolan_runtime::database;
use sqlx::PgPool;

use super::Error;
use crate::{
    domain::{Product, Sku},
    store,
};

const MAX_LIMIT: u32 = 100;
const MAX_QUERY_CHARS: usize = 200;

/// Which products to list.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Where the previous page ended; empty for the first.
    pub cursor: String,
    /// How many at most, 1 to 100.
    pub limit: u32,
    /// Only those whose name or SKU contains this, whatever the case; empty for all.
    pub query: String,
}

/// Some products, by SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The products.
    pub products: Vec<Product>,
    /// Where to go on; empty on the last page.
    pub next_cursor: String,
}

/// Lists products.
///
/// # Errors
/// A cursor that is none of ours, a limit out of range, an endless query, or the database's.
pub async fn list_products(pool: &PgPool, request: &PageRequest) -> Result<Page, Error> {
    if !(1..=MAX_LIMIT).contains(&request.limit) {
        return Err(Error::field("limit", "must be from 1 to 100"));
    }
    let after = read_cursor(&request.cursor)?;
    let pattern = pattern(&request.query)?;
    let mut conn = database::acquire(pool).await?;
    // One more than asked tells whether there is another page.
    let ask = i64::from(request.limit) + 1;
    let products = store::list(&mut conn, &after, pattern.as_deref(), ask).await?;
    Ok(page(products, request.limit))
}

/// One product, if there is such a product.
///
/// # Errors
/// The database's.
pub async fn get_product(pool: &PgPool, sku: &str) -> Result<Option<Product>, Error> {
    if sku.parse::<Sku>().is_err() {
        return Ok(None);
    }
    let mut conn = database::acquire(pool).await?;
    Ok(store::find(&mut conn, sku).await?)
}

fn page(mut products: Vec<Product>, limit: u32) -> Page {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = products.len() > limit;
    products.truncate(limit);
    let last = products.last().filter(|_| more);
    let next_cursor = last.map(|product| URL_SAFE_NO_PAD.encode(&product.sku)).unwrap_or_default();
    Page { products, next_cursor }
}

fn read_cursor(cursor: &str) -> Result<String, Error> {
    if cursor.is_empty() {
        return Ok(String::new());
    }
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| Sku::try_from(text).ok())
        .map(Sku::into_string)
        .ok_or_else(|| Error::field("cursor", "is not the next_cursor of a page"))
}

/// The LIKE pattern of "contains this"; what LIKE would read as a wildcard stands for itself.
fn pattern(query: &str) -> Result<Option<String>, Error> {
    if query.chars().count() > MAX_QUERY_CHARS || query.chars().any(char::is_control) {
        return Err(Error::field("query", "must be at most 200 printable characters"));
    }
    if query.is_empty() {
        return Ok(None);
    }
    let escaped = query.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    Ok(Some(format!("%{escaped}%")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_the_round_trip(sku in "[!-~]{1,64}") {
            prop_assert_eq!(read_cursor(&URL_SAFE_NO_PAD.encode(&sku)).unwrap(), sku);
        }

        #[test]
        fn a_cursor_is_a_sku_or_refused(
            text in prop_oneof!["[A-Za-z0-9_=-]{0,90}", any::<String>()],
        ) {
            if let Ok(sku) = read_cursor(&text) {
                prop_assert!(sku.is_empty() == text.is_empty());
                prop_assert!(sku.is_empty() || Sku::try_from(sku).is_ok());
            }
        }

        #[test]
        fn no_query_leaves_its_pattern(query in any::<String>()) {
            if let Ok(Some(pattern)) = pattern(&query) {
                let inner = pattern.strip_prefix('%').and_then(|rest| rest.strip_suffix('%'));
                let plain = inner.unwrap().replace(r"\\", "").replace(r"\%", "").replace(r"\_", "");
                prop_assert!(!plain.contains(['%', '_', '\\']), "{plain}");
            }
        }
    }

    #[test]
    fn wildcards_in_a_query_stand_for_themselves() {
        assert_eq!(pattern(r"50%_\").unwrap().unwrap(), r"%50\%\_\\%");
        assert_eq!(pattern("").unwrap(), None);
        assert!(pattern("a\0").is_err());
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        assert_eq!(read_cursor("").unwrap(), "");
        assert_eq!(read_cursor(&URL_SAFE_NO_PAD.encode("85123A")).unwrap(), "85123A");
        for bad in ["*", "AA", "IA", "a"] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
