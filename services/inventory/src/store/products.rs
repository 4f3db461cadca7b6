use std::collections::HashSet;

use portolan_kernel::{Currency, Money};
use sqlx::PgConnection;

use crate::domain::{ImportedProduct, Product};

/// SKU and price of those of these SKUs that are in the catalogue.
pub(crate) async fn quote(
    conn: &mut PgConnection,
    skus: &[String],
) -> Result<Vec<(String, Money)>, sqlx::Error> {
    let rows =
        sqlx::query!("SELECT sku, price_minor, currency FROM product WHERE sku = ANY ($1)", skus)
            .fetch_all(conn)
            .await?;
    rows.into_iter().map(|row| Ok((row.sku, money(row.price_minor, &row.currency)?))).collect()
}

/// One product.
pub(crate) async fn find(
    conn: &mut PgConnection,
    sku: &str,
) -> Result<Option<Product>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT p.sku, p.name, p.price_minor, p.currency, s.available
         FROM product p JOIN stock s USING (sku)
         WHERE p.sku = $1",
        sku
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let price = money(row.price_minor, &row.currency)?;
        Ok(Product { sku: row.sku, name: row.name, price, available: row.available })
    })
    .transpose()
}

/// Products after a SKU whose name or SKU is like a pattern (`None` for all), by SKU.
pub(crate) async fn list(
    conn: &mut PgConnection,
    after: &str,
    pattern: Option<&str>,
    limit: i64,
) -> Result<Vec<Product>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT p.sku, p.name, p.price_minor, p.currency, s.available
           FROM product p JOIN stock s USING (sku)
           WHERE p.sku > $1
             AND ($2::text IS NULL OR p.name ILIKE $2 ESCAPE '\' OR p.sku ILIKE $2 ESCAPE '\')
           ORDER BY p.sku COLLATE "C"
           LIMIT $3"#,
        after,
        pattern,
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let price = money(row.price_minor, &row.currency)?;
            Ok(Product { sku: row.sku, name: row.name, price, available: row.available })
        })
        .collect()
}

/// Adds products, and gives those already there their new name and price.
pub(crate) async fn upsert(
    conn: &mut PgConnection,
    products: &[ImportedProduct],
) -> Result<(), sqlx::Error> {
    let names: Vec<_> = products.iter().map(|product| product.name.clone()).collect();
    let prices: Vec<_> = products.iter().map(|product| product.price.minor_units).collect();
    let currencies: Vec<String> =
        products.iter().map(|product| product.price.currency.into()).collect();
    sqlx::query!(
        r#"INSERT INTO product AS old (sku, name, price_minor, currency)
           SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
               AS n (sku, name, price_minor, currency)
           ORDER BY n.sku COLLATE "C"
           ON CONFLICT (sku) DO UPDATE
               SET name = excluded.name, price_minor = excluded.price_minor,
                   currency = excluded.currency
               WHERE (old.name, old.price_minor, old.currency)
                   IS DISTINCT FROM (excluded.name, excluded.price_minor, excluded.currency)"#,
        &skus(products),
        &names,
        &prices,
        &currencies,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives new products their opening stock. Returns the SKUs that were new.
pub(crate) async fn insert_stock(
    conn: &mut PgConnection,
    products: &[ImportedProduct],
) -> Result<HashSet<String>, sqlx::Error> {
    let quantities: Vec<_> = products.iter().map(|product| product.quantity).collect();
    let created = sqlx::query_scalar!(
        r#"INSERT INTO stock (sku, on_hand, available, reserved)
           SELECT n.sku, n.quantity, n.quantity, 0
           FROM unnest($1::text[], $2::bigint[]) AS n (sku, quantity)
           ORDER BY n.sku COLLATE "C"
           ON CONFLICT (sku) DO NOTHING
           RETURNING sku"#,
        &skus(products),
        &quantities,
    )
    .fetch_all(conn)
    .await?;
    Ok(created.into_iter().collect())
}

fn skus(products: &[ImportedProduct]) -> Vec<String> {
    products.iter().map(|product| product.sku.as_str().to_owned()).collect()
}

fn money(minor_units: i64, currency: &str) -> Result<Money, sqlx::Error> {
    let currency: Currency =
        currency.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Money::new(minor_units, currency))
}
