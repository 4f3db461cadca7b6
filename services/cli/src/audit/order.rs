//! The order service's database.

use std::collections::{HashMap, HashSet};

use portolan_proto::order::v1 as proto;
use prost::Message as _;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::messaging::Messaging;

/// One order.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) id: Uuid,
    pub(super) user: String,
    /// The idempotency key.
    pub(super) key: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) version: i64,
}

impl Order {
    /// Whether nothing can change any more.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "COMPLETED" | "CANCELLED")
    }
}

/// One transition of an order.
#[derive(Debug)]
pub(super) struct Transition {
    pub(super) order: Uuid,
    pub(super) version: i64,
    pub(super) state: String,
    /// Whether its event must still be in the log, of which days are dropped when they are old.
    pub(super) logged: bool,
}

/// The answer kept for an idempotency key.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) user: String,
    pub(super) key: String,
    pub(super) order: Uuid,
    /// The order that the stored answer names, if it can be read.
    pub(super) answered: Option<Uuid>,
}

/// A customer's guard row.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) user: String,
    pub(super) fence: i64,
    pub(super) open: i64,
    pub(super) placed: i64,
    pub(super) completed: i64,
    pub(super) cancelled: i64,
}

/// Everything in the database.
#[derive(Debug, Default)]
pub(super) struct OrderDb {
    pub(super) orders: Vec<Order>,
    /// By order and version.
    pub(super) transitions: Vec<Transition>,
    pub(super) answers: Vec<Answer>,
    pub(super) guards: Vec<Guard>,
    /// What each customer spent, by customer and currency.
    pub(super) spent: HashMap<(String, String), i64>,
    /// Order and event.
    pub(super) timeline: HashSet<(Uuid, Uuid)>,
    pub(super) messaging: Messaging,
}

impl OrderDb {
    /// Reads everything within the connection's transaction.
    pub(super) async fn load(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            orders: all(db, ORDERS, order).await?,
            transitions: all(db, TRANSITIONS, transition).await?,
            answers: all(db, ANSWERS, answer).await?,
            guards: all(db, GUARDS, guard).await?,
            spent: all(db, SPENT, spent).await?.into_iter().collect(),
            timeline: all(db, TIMELINE, |row| {
                Ok((row.try_get("order_id")?, row.try_get("event_id")?))
            })
            .await?
            .into_iter()
            .collect(),
            messaging: Messaging::load(db).await?,
        })
    }
}

const ORDERS: &str = "
    SELECT id, user_id, idempotency_key, upper(state) AS state, upper(reason) AS reason,
        amount_minor, currency, version
    FROM orders ORDER BY id";
// An event has its day from its producer's clock, which may be that of the day before.
const TRANSITIONS: &str = "
    SELECT order_id, version, upper(state) AS state,
        coalesce((at AT TIME ZONE 'UTC')::date > kept.first_day, true) AS logged
    FROM order_event CROSS JOIN (
        SELECT min(to_date(right(relname, 8), 'YYYYMMDD')) AS first_day
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'event_log'::regclass AND relname ~ '_[0-9]{8}$'
    ) AS kept
    ORDER BY order_id, version";
const ANSWERS: &str = "SELECT user_id, key, order_id, response FROM idempotency";
const GUARDS: &str = "
    SELECT user_id, fence, open_orders::bigint AS open_orders, orders, completed, cancelled
    FROM user_guard ORDER BY user_id";
const SPENT: &str = "SELECT user_id, currency, minor_units FROM user_spent";
const TIMELINE: &str = "SELECT order_id, event_id FROM order_timeline";

async fn all<T>(
    db: &mut PgConnection,
    sql: &'static str,
    read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
) -> Result<Vec<T>, sqlx::Error> {
    sqlx::query(sql).fetch_all(db).await?.iter().map(read).collect()
}

fn order(row: &PgRow) -> Result<Order, sqlx::Error> {
    Ok(Order {
        id: row.try_get("id")?,
        user: row.try_get("user_id")?,
        key: row.try_get("idempotency_key")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        amount: row.try_get("amount_minor")?,
        currency: row.try_get("currency")?,
        version: row.try_get("version")?,
    })
}

fn transition(row: &PgRow) -> Result<Transition, sqlx::Error> {
    Ok(Transition {
        order: row.try_get("order_id")?,
        version: row.try_get("version")?,
        state: row.try_get("state")?,
        logged: row.try_get("logged")?,
    })
}

fn answer(row: &PgRow) -> Result<Answer, sqlx::Error> {
    let order: Uuid = row.try_get("order_id")?;
    Ok(Answer {
        user: row.try_get("user_id")?,
        key: row.try_get("key")?,
        order,
        answered: answered(row.try_get("response")?),
    })
}

/// The order that a stored answer, a protobuf message, is about.
fn answered(response: &[u8]) -> Option<Uuid> {
    let order = proto::Order::decode(response).ok()?;
    Uuid::try_parse(&order.id).ok()
}

fn guard(row: &PgRow) -> Result<Guard, sqlx::Error> {
    Ok(Guard {
        user: row.try_get("user_id")?,
        fence: row.try_get("fence")?,
        open: row.try_get("open_orders")?,
        placed: row.try_get("orders")?,
        completed: row.try_get("completed")?,
        cancelled: row.try_get("cancelled")?,
    })
}

fn spent(row: &PgRow) -> Result<((String, String), i64), sqlx::Error> {
    Ok(((row.try_get("user_id")?, row.try_get("currency")?), row.try_get("minor_units")?))
}

/// Every customer's fence.
pub(super) async fn fences(db: &mut PgConnection) -> Result<HashMap<String, i64>, sqlx::Error> {
    let fences = all(db, "SELECT user_id, fence FROM user_guard", |row| {
        Ok((row.try_get("user_id")?, row.try_get("fence")?))
    });
    Ok(fences.await?.into_iter().collect())
}

/// Which orders are not final.
pub(super) async fn open(db: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT id FROM orders WHERE upper(state) NOT IN ('COMPLETED', 'CANCELLED') ORDER BY 1",
    )
    .fetch_all(db)
    .await
}
