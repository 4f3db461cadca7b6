use std::collections::HashMap;

use portolan_kernel::OrderId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::{Line, Order, Reservation, Sku, State};

/// The reservations of these orders with their lines, locked in the order of the ids. An order
/// without one is absent: its advisory lock, which the consumer holds, stands in for the row.
pub(crate) async fn lock_reservations(
    conn: &mut PgConnection,
    orders: &[Uuid],
) -> Result<HashMap<OrderId, Reservation>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT order_id, state, was_committed, version, missing_sku
         FROM reservation
         WHERE order_id = ANY ($1)
         ORDER BY order_id
         FOR UPDATE",
        orders
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let state = State::parse(&row.state, row.was_committed).map_err(decode)?;
        let missing = row.missing_sku.map(Sku::try_from).transpose().map_err(decode)?;
        let reservation = Reservation { state, version: row.version, lines: Vec::new(), missing };
        found.insert(OrderId(row.order_id), reservation);
    }
    load_lines(conn, &mut found).await?;
    Ok(found)
}

async fn load_lines(
    conn: &mut PgConnection,
    reservations: &mut HashMap<OrderId, Reservation>,
) -> Result<(), sqlx::Error> {
    if reservations.is_empty() {
        return Ok(());
    }
    let orders: Vec<Uuid> = reservations.keys().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "SELECT order_id, sku, quantity FROM reservation_line WHERE order_id = ANY ($1)",
        &orders
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let line = Line {
            sku: Sku::try_from(row.sku).map_err(decode)?,
            quantity: u32::try_from(row.quantity).map_err(decode)?,
        };
        if let Some(reservation) = reservations.get_mut(&OrderId(row.order_id)) {
            reservation.lines.push(line);
        }
    }
    Ok(())
}

/// Writes reservations back. Returns how many were written, which must be all of them: an update
/// is guarded by the version that was read.
pub(crate) async fn save_reservations(
    conn: &mut PgConnection,
    changed: &[(OrderId, &Order)],
) -> Result<u64, sqlx::Error> {
    let (new, old): (Vec<_>, Vec<_>) =
        changed.iter().partition(|(_, order)| order.stored.is_none());
    let mut written = insert(conn, &new).await?;
    insert_lines(conn, &new).await?;
    written += update(conn, &old).await?;
    Ok(written)
}

type Changed<'a> = (OrderId, &'a Order);

async fn insert(conn: &mut PgConnection, new: &[Changed<'_>]) -> Result<u64, sqlx::Error> {
    if new.is_empty() {
        return Ok(0);
    }
    let missing: Vec<Option<String>> = new
        .iter()
        .map(|(_, order)| order.reservation.missing.as_ref().map(|sku| sku.as_str().to_owned()))
        .collect();
    let done = sqlx::query!(
        "INSERT INTO reservation (order_id, state, was_committed, version, missing_sku)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::boolean[], $4::bigint[], $5::text[])",
        &ids(new),
        &states(new),
        &committed(new),
        &versions(new),
        &missing as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

async fn insert_lines(conn: &mut PgConnection, new: &[Changed<'_>]) -> Result<(), sqlx::Error> {
    let (mut orders, mut skus, mut quantities) = (vec![], vec![], vec![]);
    for (id, order) in new {
        for line in &order.reservation.lines {
            orders.push(id.0);
            skus.push(line.sku.as_str().to_owned());
            quantities.push(i32::try_from(line.quantity).unwrap_or(i32::MAX));
        }
    }
    if orders.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO reservation_line (order_id, sku, quantity)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[])",
        &orders,
        &skus,
        &quantities,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn update(conn: &mut PgConnection, old: &[Changed<'_>]) -> Result<u64, sqlx::Error> {
    if old.is_empty() {
        return Ok(0);
    }
    let stored: Vec<i64> = old.iter().filter_map(|(_, order)| order.stored).collect();
    let done = sqlx::query!(
        "UPDATE reservation r
         SET state = n.state, was_committed = n.was_committed, version = n.version,
             updated_at = clock_timestamp()
         FROM unnest($1::uuid[], $2::text[], $3::boolean[], $4::bigint[], $5::bigint[])
             AS n (order_id, state, was_committed, version, stored)
         WHERE r.order_id = n.order_id AND r.version = n.stored",
        &ids(old),
        &states(old),
        &committed(old),
        &versions(old),
        &stored,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

fn ids(orders: &[Changed<'_>]) -> Vec<Uuid> {
    orders.iter().map(|(id, _)| id.0).collect()
}

fn states(orders: &[Changed<'_>]) -> Vec<String> {
    orders.iter().map(|(_, order)| order.reservation.state.as_str().to_owned()).collect()
}

fn committed(orders: &[Changed<'_>]) -> Vec<bool> {
    orders.iter().map(|(_, order)| order.reservation.state.was_committed()).collect()
}

fn versions(orders: &[Changed<'_>]) -> Vec<i64> {
    orders.iter().map(|(_, order)| order.reservation.version).collect()
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
