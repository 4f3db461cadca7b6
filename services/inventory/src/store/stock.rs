use sqlx::PgConnection;

use crate::domain::{Entry, Level, Levels, Sku};

/// The most ledger entries in one statement.
const MAX_ENTRIES: usize = 4096;

/// The levels of these SKUs, locked in byte order; those not in the catalogue are absent.
pub(crate) async fn lock_levels(
    conn: &mut PgConnection,
    skus: &[String],
) -> Result<Levels, sqlx::Error> {
    if skus.is_empty() {
        return Ok(Levels::default());
    }
    let rows = sqlx::query!(
        r#"SELECT sku, available, reserved
           FROM stock
           WHERE sku = ANY ($1)
           ORDER BY sku COLLATE "C"
           FOR UPDATE"#,
        skus
    )
    .fetch_all(conn)
    .await?;
    let level = |sku, available, reserved| match Sku::try_from(sku) {
        Ok(sku) => Ok((sku, Level { available, reserved })),
        Err(error) => Err(sqlx::Error::Decode(Box::new(error))),
    };
    let levels: Result<Vec<_>, _> =
        rows.into_iter().map(|row| level(row.sku, row.available, row.reserved)).collect();
    Ok(Levels::new(levels?))
}

/// Writes the changed levels back. Returns how many rows were written and how many should have
/// been: the caller compares.
pub(crate) async fn save_levels(
    conn: &mut PgConnection,
    levels: &Levels,
) -> Result<(u64, usize), sqlx::Error> {
    let (mut skus, mut available, mut reserved) = (vec![], vec![], vec![]);
    for (sku, level) in levels.changed() {
        skus.push(sku.as_str().to_owned());
        available.push(level.available);
        reserved.push(level.reserved);
    }
    if skus.is_empty() {
        return Ok((0, 0));
    }
    let done = sqlx::query!(
        "UPDATE stock s
         SET on_hand = n.available + n.reserved, available = n.available, reserved = n.reserved
         FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n (sku, available, reserved)
         WHERE s.sku = n.sku",
        &skus,
        &available,
        &reserved,
    )
    .execute(conn)
    .await?;
    Ok((done.rows_affected(), skus.len()))
}

/// Writes ledger entries, a bounded number with each statement: an order may have any number of
/// lines, and every statement must end within the database's statement timeout.
pub(crate) async fn insert_entries(
    conn: &mut PgConnection,
    entries: &[Entry],
) -> Result<(), sqlx::Error> {
    for chunk in entries.chunks(MAX_ENTRIES) {
        insert_chunk(conn, chunk).await?;
    }
    Ok(())
}

async fn insert_chunk(conn: &mut PgConnection, entries: &[Entry]) -> Result<(), sqlx::Error> {
    let causes: Vec<_> = entries.iter().map(|entry| entry.cause).collect();
    let skus: Vec<_> = entries.iter().map(|entry| entry.sku.as_str().to_owned()).collect();
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind.as_str().to_owned()).collect();
    let available: Vec<_> = entries.iter().map(|entry| entry.available).collect();
    let reserved: Vec<_> = entries.iter().map(|entry| entry.reserved).collect();
    sqlx::query!(
        "INSERT INTO stock_ledger
             (cause, sku, kind, delta_on_hand, delta_available, delta_reserved)
         SELECT cause, sku, kind, available + reserved, available, reserved
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
             AS e (cause, sku, kind, available, reserved)",
        &causes,
        &skus,
        &kinds,
        &available,
        &reserved,
    )
    .execute(conn)
    .await?;
    Ok(())
}
