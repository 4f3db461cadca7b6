use std::collections::HashSet;

use portolan_kernel::IdGen;
use portolan_runtime::database;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Error;
use crate::{
    domain::{Entry, ImportedProduct, Kind, Levels, Line, MAX_IMPORT},
    store,
};

/// What an import changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Products that were new.
    pub created: usize,
    /// Products whose stock was raised.
    pub restocked: usize,
}

/// Adds products with their opening stock; gives those already there their new name and price, and
/// raises what is available of them to at least the given number. Doing it again changes nothing.
///
/// # Errors
/// More than [`MAX_IMPORT`] products, or the database's: then nothing was imported.
pub async fn import_products(
    pool: &PgPool,
    ids: &dyn IdGen,
    products: &[ImportedProduct],
) -> Result<Imported, Error> {
    if products.len() > MAX_IMPORT {
        return Err(Error::field("products", "must be at most 1000"));
    }
    let mut tx = database::begin(pool).await?;
    let import = ids.next();
    store::upsert(&mut tx, products).await?;
    let created = store::insert_stock(&mut tx, products).await?;
    let initial = opening(import, products, &created);
    store::insert_entries(&mut tx, &initial).await?;
    let restocked = restock(&mut tx, import, products, &created).await?;
    tx.commit().await?;
    Ok(Imported { created: created.len(), restocked })
}

fn opening(import: Uuid, products: &[ImportedProduct], created: &HashSet<String>) -> Vec<Entry> {
    products
        .iter()
        .filter(|product| created.contains(product.sku.as_str()))
        .map(|product| Entry {
            cause: import,
            sku: product.sku.clone(),
            kind: Kind::Initial,
            available: product.quantity,
            reserved: 0,
        })
        .collect()
}

async fn restock(
    tx: &mut PgConnection,
    import: Uuid,
    products: &[ImportedProduct],
    created: &HashSet<String>,
) -> Result<usize, Error> {
    let old: Vec<&ImportedProduct> =
        products.iter().filter(|product| !created.contains(product.sku.as_str())).collect();
    let skus: Vec<String> = old.iter().map(|product| product.sku.as_str().to_owned()).collect();
    let mut levels = store::lock_levels(tx, &skus).await?;
    let entries = raise(&mut levels, import, &old);
    store::save_levels(tx, &levels).await?;
    store::insert_entries(tx, &entries).await?;
    Ok(entries.len())
}

fn raise(levels: &mut Levels, import: Uuid, products: &[&ImportedProduct]) -> Vec<Entry> {
    products
        .iter()
        .filter_map(|product| {
            let available = levels.get(&product.sku)?.available;
            let lacking = u32::try_from(product.quantity - available).ok().filter(|n| *n > 0)?;
            Some(Line { sku: product.sku.clone(), quantity: lacking })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|line| levels.restock(import, &[line]))
        .map(|entry| Entry { kind: Kind::Restock, ..entry })
        .collect()
}
