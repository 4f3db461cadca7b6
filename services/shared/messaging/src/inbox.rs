//! The inbox: which records a group has dealt with, and the locks that make one order's records
//! wait for one another.

use std::collections::{BTreeSet, HashSet};

use sqlx::PgConnection;
use time::Date;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{batch::Delivery, handler::Group};

/// Inserts the deliveries' ids and returns those that were not there yet.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    group: Group,
    deliveries: &[Delivery],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let sorted: BTreeSet<(Date, Uuid)> = deliveries.iter().map(|d| (d.day, d.inbox_id)).collect();
    let (days, ids): (Vec<Date>, Vec<Uuid>) = sorted.into_iter().unzip();
    let fresh = sqlx::query_scalar!(
        "INSERT INTO inbox (grp, event_day, event_id)
         SELECT $1, day, id FROM unnest($2::date[], $3::uuid[]) AS e (day, id)
         ORDER BY day, id
         ON CONFLICT DO NOTHING
         RETURNING event_id",
        group.id,
        &days,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(fresh.into_iter().collect())
}

/// Changes the status of a delivery inserted by this transaction.
pub(crate) async fn set_status(
    conn: &mut PgConnection,
    group: Group,
    deliveries: &[&Delivery],
    status: &str,
) -> Result<(), sqlx::Error> {
    let days: Vec<Date> = deliveries.iter().map(|d| d.day).collect();
    let ids: Vec<Uuid> = deliveries.iter().map(|d| d.inbox_id).collect();
    sqlx::query!(
        "UPDATE inbox SET status = $1
         FROM unnest($3::date[], $4::uuid[]) AS e (day, id)
         WHERE grp = $2 AND event_day = e.day AND event_id = e.id",
        status,
        group.id,
        &days,
        &ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the transaction-scoped advisory lock of every key, in one order for everybody.
///
/// A row lock cannot do this: the first event of an order finds no row to lock, and two topics
/// may deliver two events of one order to two replicas at once. A collision of two keys' numbers
/// only makes them wait for each other.
pub(crate) async fn lock_keys(
    conn: &mut PgConnection,
    group: Group,
    deliveries: &[&Delivery],
) -> Result<(), sqlx::Error> {
    lock(conn, group, deliveries.iter().map(|d| d.raw.key.as_slice())).await
}

/// The same for keys alone.
pub(crate) async fn lock<'a>(
    conn: &mut PgConnection,
    group: Group,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<(), sqlx::Error> {
    let seed = u64::from(group.id.unsigned_abs());
    let locks: BTreeSet<i64> =
        keys.map(|key| i64::from_ne_bytes(xxh3_64_with_seed(key, seed).to_ne_bytes())).collect();
    let locks: Vec<i64> = locks.into_iter().collect();
    // An aggregate over a sub-select in order: the locks are taken row by row, sorted.
    sqlx::query_scalar!(
        "SELECT count(pg_advisory_xact_lock(n)::text)
         FROM (SELECT n FROM unnest($1::bigint[]) WITH ORDINALITY AS e (n, i) ORDER BY i) AS sorted",
        &locks,
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Which of the deliveries' keys wait behind a dead letter.
pub(crate) async fn parked_keys(
    conn: &mut PgConnection,
    group: Group,
    deliveries: &[&Delivery],
) -> Result<HashSet<Vec<u8>>, sqlx::Error> {
    let keys: Vec<Vec<u8>> = deliveries.iter().map(|d| d.raw.key.clone()).collect();
    let parked = sqlx::query_scalar!(
        "SELECT key FROM parked_key WHERE grp = $1 AND key = ANY($2)",
        group.id,
        &keys,
    )
    .fetch_all(conn)
    .await?;
    Ok(parked.into_iter().collect())
}
