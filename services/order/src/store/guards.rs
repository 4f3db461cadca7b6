use std::collections::BTreeMap;

use portolan_kernel::OrderId;
use portolan_messaging::HandlerError;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// What a batch of final orders does to one customer's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Orders that became COMPLETED.
    pub completed: i32,
    /// Orders that became CANCELLED.
    pub cancelled: i32,
}

/// Closes orders of customers: fewer open, more completed or cancelled. Locks the rows in the
/// order of the user ids.
pub async fn close_orders(
    conn: &mut PgConnection,
    closed: &BTreeMap<&str, Closed>,
) -> Result<(), HandlerError> {
    let users: Vec<String> = closed.keys().map(|user| (*user).to_owned()).collect();
    let completed: Vec<i32> = closed.values().map(|c| c.completed).collect();
    let cancelled: Vec<i32> = closed.values().map(|c| c.cancelled).collect();
    sqlx::query!(
        r#"SELECT user_id FROM user_guard WHERE user_id = ANY($1) ORDER BY user_id COLLATE "C" FOR UPDATE"#,
        &users,
    )
    .fetch_all(&mut *conn)
    .await?;
    let done = sqlx::query!(
        "UPDATE user_guard AS g
         SET open_orders = open_orders - e.completed - e.cancelled,
             completed = g.completed + e.completed,
             cancelled = g.cancelled + e.cancelled
         FROM unnest($1::text[], $2::int[], $3::int[]) AS e (user_id, completed, cancelled)
         WHERE g.user_id = e.user_id",
        &users,
        &completed,
        &cancelled,
    )
    .execute(conn)
    .await?;
    HandlerError::expect_rows(users.len(), done.rows_affected(), "user_guard")
}

/// Adds what completed orders cost. The rows' guards are locked already.
pub async fn add_spent(
    conn: &mut PgConnection,
    spent: &BTreeMap<(&str, &str), i64>,
) -> Result<(), sqlx::Error> {
    let users: Vec<String> = spent.keys().map(|(user, _)| (*user).to_owned()).collect();
    let currencies: Vec<String> =
        spent.keys().map(|(_, currency)| (*currency).to_owned()).collect();
    let amounts: Vec<i64> = spent.values().copied().collect();
    sqlx::query!(
        "INSERT INTO user_spent AS s (user_id, currency, minor_units)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
         ON CONFLICT (user_id, currency) DO UPDATE SET minor_units = s.minor_units + excluded.minor_units",
        &users,
        &currencies,
        &amounts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A customer's statistics.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Orders placed.
    pub orders: i64,
    /// Orders completed.
    pub completed: i64,
    /// Orders cancelled.
    pub cancelled: i64,
    /// Orders not yet final.
    pub open: i32,
    /// What completed orders cost, by currency.
    pub spent: Vec<(String, i64)>,
    /// The last order and its time.
    pub last: (OrderId, OffsetDateTime),
}

/// The statistics of a customer who ever placed an order.
pub async fn stats(conn: &mut PgConnection, user: &str) -> Result<Option<Stats>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT orders, completed, cancelled, open_orders, last_order_id, last_order_at
         FROM user_guard WHERE user_id = $1",
        user,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let spent = sqlx::query!(
        "SELECT currency, minor_units FROM user_spent WHERE user_id = $1 ORDER BY currency",
        user,
    )
    .fetch_all(conn)
    .await?;
    Ok(Some(Stats {
        orders: row.orders,
        completed: row.completed,
        cancelled: row.cancelled,
        open: row.open_orders,
        spent: spent.into_iter().map(|s| (s.currency, s.minor_units)).collect(),
        last: (OrderId(row.last_order_id), row.last_order_at),
    }))
}

/// Opening one order: the customer, the token of the lock if there was one, and the order.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The customer.
    pub user_id: String,
    /// The fencing token; `None` goes one beyond the fence, because the row lock decides alone.
    pub token: Option<i64>,
    /// The order.
    pub order_id: Uuid,
}

/// Counts one more open order for each customer whose token is not behind the fence and whose
/// limit (0 for none) is not reached; returns the customers for whom that was so.
///
/// The limit stands in the WHERE of the upsert, so it is evaluated on the locked row: two
/// placements of one customer cannot both see the last free place.
pub async fn open_orders(
    conn: &mut PgConnection,
    openings: &[Opening],
    limit: i32,
    at: OffsetDateTime,
) -> Result<Vec<String>, sqlx::Error> {
    let users: Vec<String> = openings.iter().map(|o| o.user_id.clone()).collect();
    let tokens: Vec<Option<i64>> = openings.iter().map(|o| o.token).collect();
    let orders: Vec<Uuid> = openings.iter().map(|o| o.order_id).collect();
    sqlx::query_scalar!(
        r#"INSERT INTO user_guard AS g (user_id, fence, open_orders, orders, last_order_id, last_order_at)
           SELECT user_id, coalesce(token, -1), 1, 1, order_id, $4
           FROM unnest($1::text[], $2::bigint[], $3::uuid[]) AS e (user_id, token, order_id)
           ORDER BY user_id COLLATE "C"
           ON CONFLICT (user_id) DO UPDATE SET
               fence = CASE WHEN excluded.fence < 0 THEN g.fence + 1 ELSE excluded.fence END,
               open_orders = g.open_orders + 1,
               orders = g.orders + 1,
               last_order_id = excluded.last_order_id,
               last_order_at = excluded.last_order_at
           WHERE (excluded.fence < 0 OR excluded.fence >= g.fence)
             AND ($5 = 0 OR g.open_orders < $5)
           RETURNING user_id"#,
        &users,
        &tokens as &[Option<i64>],
        &orders,
        at,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// The fence of a customer who was refused.
pub async fn fence(conn: &mut PgConnection, user: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!("SELECT fence FROM user_guard WHERE user_id = $1", user)
        .fetch_one(conn)
        .await
}
