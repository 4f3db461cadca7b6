use portolan_kernel::OrderId;
use portolan_messaging::HandlerError;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{OrderRow, lines_from_json, read_state};
use crate::domain::{Order, State};

struct Columns {
    id: Uuid,
    user_id: String,
    state: String,
    reason: Option<String>,
    amount_minor: i64,
    currency: String,
    lines: serde_json::Value,
    version: i64,
    captured: bool,
    committed: bool,
    deadline: OffsetDateTime,
    traceparent: String,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<Columns> for OrderRow {
    type Error = sqlx::Error;

    fn try_from(row: Columns) -> Result<Self, Self::Error> {
        let (state, reason) = read_state(&row.state, row.reason.as_deref())?;
        Ok(Self {
            id: OrderId(row.id),
            user_id: row.user_id,
            order: Order {
                state,
                reason,
                captured: row.captured,
                committed: row.committed,
                version: row.version,
            },
            amount_minor: row.amount_minor,
            currency: row.currency,
            lines: lines_from_json(row.lines)?,
            deadline: row.deadline,
            traceparent: row.traceparent,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// The order, whoever's it is.
pub async fn find(conn: &mut PgConnection, id: OrderId) -> Result<Option<OrderRow>, sqlx::Error> {
    let row = sqlx::query_as!(
        Columns,
        "SELECT id, user_id, state, reason, amount_minor, currency, lines, version, captured,
                committed, deadline, traceparent, created_at, updated_at
         FROM orders WHERE id = $1",
        id.0,
    )
    .fetch_optional(conn)
    .await?;
    row.map(OrderRow::try_from).transpose()
}

/// The user's order with this idempotency key, and the hash of the request that made it.
pub async fn find_by_key(
    conn: &mut PgConnection,
    user_id: &str,
    key: &str,
) -> Result<Option<(OrderRow, Vec<u8>)>, sqlx::Error> {
    let made = sqlx::query!(
        "SELECT id, fingerprint FROM orders WHERE user_id = $1 AND idempotency_key = $2",
        user_id,
        key,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(made) = made else { return Ok(None) };
    let order = find(conn, OrderId(made.id)).await?;
    Ok(order.map(|order| (order, made.fingerprint)))
}

/// A page of the user's orders, newest first, after the given place.
pub async fn list(
    conn: &mut PgConnection,
    user_id: &str,
    after: Option<(OffsetDateTime, Uuid)>,
    state: Option<State>,
    limit: i64,
) -> Result<Vec<OrderRow>, sqlx::Error> {
    let (after_time, after_id) = after.unzip();
    let rows = sqlx::query_as!(
        Columns,
        "SELECT id, user_id, state, reason, amount_minor, currency, lines, version, captured,
                committed, deadline, traceparent, created_at, updated_at
         FROM orders
         WHERE user_id = $1
           AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
           AND ($4::text IS NULL OR state = $4)
         ORDER BY created_at DESC, id DESC
         LIMIT $5",
        user_id,
        after_time,
        after_id,
        state.map(State::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(OrderRow::try_from).collect()
}

/// The order's version, for those who only want to know whether it changed.
pub async fn version(conn: &mut PgConnection, id: OrderId) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!("SELECT version FROM orders WHERE id = $1", id.0).fetch_optional(conn).await
}

/// Locks orders in the order of their ids.
pub async fn lock(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<OrderRow>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Columns,
        "SELECT id, user_id, state, reason, amount_minor, currency, lines, version, captured,
                committed, deadline, traceparent, created_at, updated_at
         FROM orders WHERE id = ANY($1)
         ORDER BY id
         FOR UPDATE",
        ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(OrderRow::try_from).collect()
}

/// Locks undecided orders whose deadline has passed; those that another replica holds are its.
pub async fn lock_overdue(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<Vec<OrderRow>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Columns,
        "SELECT id, user_id, state, reason, amount_minor, currency, lines, version, captured,
                committed, deadline, traceparent, created_at, updated_at
         FROM orders
         WHERE state IN ('PENDING', 'AWAITING_PAYMENT') AND deadline < now()
         ORDER BY id
         LIMIT $1
         FOR UPDATE SKIP LOCKED",
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(OrderRow::try_from).collect()
}

/// A locked order's new state, and the version it had when it was locked.
#[derive(Clone, Debug)]
pub struct Update {
    /// Which order.
    pub id: OrderId,
    /// The version when it was locked.
    pub from_version: i64,
    /// What it is now.
    pub order: Order,
}

/// Writes locked orders back; the old version guards each row.
///
/// # Errors
/// A row has another version than when it was locked, or the database's.
pub async fn update(
    conn: &mut PgConnection,
    updates: &[Update],
    at: OffsetDateTime,
) -> Result<(), HandlerError> {
    let ids: Vec<Uuid> = updates.iter().map(|u| u.id.0).collect();
    let from: Vec<i64> = updates.iter().map(|u| u.from_version).collect();
    let states: Vec<String> = updates.iter().map(|u| u.order.state.to_string()).collect();
    let reasons: Vec<Option<String>> =
        updates.iter().map(|u| u.order.reason.map(|r| r.as_str().to_owned())).collect();
    let versions: Vec<i64> = updates.iter().map(|u| u.order.version).collect();
    let captured: Vec<bool> = updates.iter().map(|u| u.order.captured).collect();
    let committed: Vec<bool> = updates.iter().map(|u| u.order.committed).collect();
    let done = sqlx::query!(
        "UPDATE orders AS o
         SET state = e.state, reason = e.reason, version = e.version, captured = e.captured,
             committed = e.committed,
             updated_at = CASE WHEN o.version = e.version THEN o.updated_at ELSE $8 END
         FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bool[], $7::bool[])
             AS e (id, from_version, state, reason, version, captured, committed)
         WHERE o.id = e.id AND o.version = e.from_version",
        &ids,
        &from,
        &states,
        &reasons as &[Option<String>],
        &versions,
        &captured,
        &committed,
        at,
    )
    .execute(conn)
    .await?;
    HandlerError::expect_rows(updates.len(), done.rows_affected(), "orders")
}

/// One transition in an order's history.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Which order.
    pub id: OrderId,
    /// What it became.
    pub order: Order,
    /// The event that caused it.
    pub cause: &'static str,
}

/// Appends to the orders' histories.
pub async fn append_history(
    conn: &mut PgConnection,
    transitions: &[Transition],
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = transitions.iter().map(|t| t.id.0).collect();
    let versions: Vec<i64> = transitions.iter().map(|t| t.order.version).collect();
    let states: Vec<String> = transitions.iter().map(|t| t.order.state.to_string()).collect();
    let reasons: Vec<Option<String>> =
        transitions.iter().map(|t| t.order.reason.map(|r| r.as_str().to_owned())).collect();
    let causes: Vec<String> = transitions.iter().map(|t| t.cause.to_owned()).collect();
    sqlx::query!(
        "INSERT INTO order_event (order_id, version, state, reason, cause, at)
         SELECT *, $6 FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[])",
        &ids,
        &versions,
        &states,
        &reasons as &[Option<String>],
        &causes,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The database's time, which is the transaction's.
pub async fn now(conn: &mut PgConnection) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(conn).await
}
