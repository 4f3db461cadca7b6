use std::{collections::BTreeMap, time::Duration};

use portolan_kernel::{Currency, Money, OrderId};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Error;
use crate::domain::{CardToken, Payment};

/// A payment and when it last changed.
#[derive(Clone, Debug)]
pub struct Row {
    /// The payment.
    pub payment: Payment,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

struct Raw {
    order_id: Uuid,
    state: String,
    version: i64,
    amount: Option<i64>,
    currency: Option<String>,
    payment_token: Option<String>,
    psp_ref: Option<String>,
    code: Option<String>,
    attempt: i32,
    confirmed: bool,
    cancel_requested: bool,
    deadline: Option<OffsetDateTime>,
    trace: String,
    updated_at: OffsetDateTime,
}

impl TryFrom<Raw> for Row {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self, Error> {
        let corrupt = |what| Error::Corrupt { order: raw.order_id, what };
        let payment = Payment {
            order: OrderId(raw.order_id),
            status: raw.state.parse().map_err(|_| corrupt("state"))?,
            version: raw.version,
            amount: money(raw.amount, raw.currency.as_deref()).map_err(corrupt)?,
            token: raw.payment_token.map(CardToken::new),
            reference: raw.psp_ref,
            code: raw.code,
            attempt: u32::try_from(raw.attempt).map_err(|_| corrupt("attempt"))?,
            confirmed: raw.confirmed,
            cancel_requested: raw.cancel_requested,
            deadline: raw.deadline,
            wait: Duration::ZERO,
            trace: raw.trace,
        };
        Ok(Self { payment, updated_at: raw.updated_at })
    }
}

pub(super) fn money(
    amount: Option<i64>,
    currency: Option<&str>,
) -> Result<Option<Money>, &'static str> {
    match (amount, currency) {
        (Some(amount), Some(currency)) => {
            let currency: Currency = currency.parse().map_err(|_| "currency")?;
            Ok(Some(Money::new(amount, currency)))
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err("amount"),
    }
}

/// The payment of an order, if it has one.
///
/// # Errors
/// The database's.
pub async fn find(database: impl PgExecutor<'_>, order: OrderId) -> Result<Option<Row>, Error> {
    let raw = sqlx::query_as!(
        Raw,
        "SELECT order_id, state, version, amount, currency, payment_token, psp_ref, code, attempt,
                confirmed, cancel_requested, deadline, trace, updated_at
         FROM payment
         WHERE order_id = $1",
        order.0,
    )
    .fetch_optional(database)
    .await?;
    raw.map(Row::try_from).transpose()
}

/// Locks the payments of these orders, those that exist, in the order of their ids.
///
/// # Errors
/// The database's.
pub async fn lock(
    conn: &mut PgConnection,
    orders: &[OrderId],
) -> Result<BTreeMap<OrderId, Payment>, Error> {
    let ids: Vec<Uuid> = orders.iter().map(|order| order.0).collect();
    let rows = sqlx::query_as!(
        Raw,
        "SELECT order_id, state, version, amount, currency, payment_token, psp_ref, code, attempt,
                confirmed, cancel_requested, deadline, trace, updated_at
         FROM payment
         WHERE order_id = ANY($1)
         ORDER BY order_id
         FOR UPDATE",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|raw| Row::try_from(raw).map(|row| (row.payment.order, row.payment)))
        .collect()
}

/// The columns of several payments, for `UNNEST`.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    states: Vec<String>,
    versions: Vec<i64>,
    amounts: Vec<Option<i64>>,
    currencies: Vec<Option<String>>,
    tokens: Vec<Option<String>>,
    references: Vec<Option<String>>,
    codes: Vec<Option<String>>,
    attempts: Vec<i32>,
    confirmed: Vec<bool>,
    cancel_requested: Vec<bool>,
    deadlines: Vec<Option<OffsetDateTime>>,
    waits_ms: Vec<Option<i64>>,
    traces: Vec<String>,
}

impl Columns {
    fn of<'a>(payments: impl IntoIterator<Item = &'a Payment>) -> Self {
        let mut columns = Self::default();
        for payment in payments {
            columns.push(payment);
        }
        columns
    }

    fn push(&mut self, payment: &Payment) {
        let wait = i64::try_from(payment.wait.as_millis()).unwrap_or(i64::MAX);
        self.ids.push(payment.order.0);
        self.states.push(payment.status.as_str().to_owned());
        self.versions.push(payment.version);
        self.amounts.push(payment.amount.map(|amount| amount.minor_units));
        self.currencies.push(payment.amount.map(|amount| amount.currency.to_string()));
        self.tokens.push(payment.token.as_ref().map(|token| token.expose().to_owned()));
        self.references.push(payment.reference.clone());
        self.codes.push(payment.code.clone());
        self.attempts.push(i32::try_from(payment.attempt).unwrap_or(i32::MAX));
        self.confirmed.push(payment.confirmed);
        self.cancel_requested.push(payment.cancel_requested);
        self.deadlines.push(payment.deadline);
        self.waits_ms.push(payment.is_due_at_provider().then_some(wait));
        self.traces.push(payment.trace.clone());
    }
}

fn expect(expected: usize, actual: u64) -> Result<(), Error> {
    if u64::try_from(expected) == Ok(actual) { Ok(()) } else { Err(Error::RowCount(actual)) }
}

/// Adds payments, due at once if they are due at all.
///
/// # Errors
/// The database's, for instance because one of the orders has a payment already.
pub async fn insert(conn: &mut PgConnection, payments: &[&Payment]) -> Result<(), Error> {
    if payments.is_empty() {
        return Ok(());
    }
    let c = Columns::of(payments.iter().copied());
    let inserted = sqlx::query!(
        "INSERT INTO payment (order_id, state, version, amount, currency, payment_token, confirmed,
                              cancel_requested, deadline, trace, next_attempt_at)
         SELECT n.order_id, n.state, n.version, n.amount, n.currency, n.payment_token, n.confirmed,
                n.cancel_requested, n.deadline, n.trace, now() + n.wait_ms * interval '1 ms'
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                     $7::boolean[], $8::boolean[], $9::timestamptz[], $10::text[], $11::bigint[])
             AS n (order_id, state, version, amount, currency, payment_token, confirmed,
                   cancel_requested, deadline, trace, wait_ms)
         ORDER BY n.order_id",
        &c.ids,
        &c.states,
        &c.versions,
        &c.amounts as _,
        &c.currencies as _,
        &c.tokens as _,
        &c.confirmed,
        &c.cancel_requested,
        &c.deadlines as _,
        &c.traces,
        &c.waits_ms as _,
    )
    .execute(conn)
    .await?;
    expect(payments.len(), inserted.rows_affected())
}

/// Writes payments that were changed while their rows were locked, and ends the leases on them.
/// Each comes with the version it was read with.
///
/// # Errors
/// The database's; a row is not at the version it was read with.
pub async fn update(conn: &mut PgConnection, payments: &[(&Payment, i64)]) -> Result<(), Error> {
    if payments.is_empty() {
        return Ok(());
    }
    let c = Columns::of(payments.iter().map(|(payment, _)| *payment));
    let read: Vec<i64> = payments.iter().map(|(_, version)| *version).collect();
    let updated = sqlx::query!(
        "UPDATE payment AS p
         SET state = n.state, version = n.version, amount = n.amount, currency = n.currency,
             payment_token = n.payment_token, psp_ref = n.psp_ref, code = n.code,
             attempt = n.attempt, confirmed = n.confirmed, cancel_requested = n.cancel_requested,
             deadline = n.deadline, trace = n.trace, lease_until = NULL,
             next_attempt_at = now() + n.wait_ms * interval '1 ms',
             updated_at = CASE WHEN p.version = n.version THEN p.updated_at ELSE now() END
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                     $7::text[], $8::text[], $9::integer[], $10::boolean[], $11::boolean[],
                     $12::timestamptz[], $13::text[], $14::bigint[], $15::bigint[])
             AS n (order_id, state, version, amount, currency, payment_token, psp_ref, code,
                   attempt, confirmed, cancel_requested, deadline, trace, wait_ms, read_version)
         WHERE p.order_id = n.order_id AND p.version = n.read_version",
        &c.ids,
        &c.states,
        &c.versions,
        &c.amounts as _,
        &c.currencies as _,
        &c.tokens as _,
        &c.references as _,
        &c.codes as _,
        &c.attempts,
        &c.confirmed,
        &c.cancel_requested,
        &c.deadlines as _,
        &c.traces,
        &c.waits_ms as _,
        &read,
    )
    .execute(conn)
    .await?;
    expect(payments.len(), updated.rows_affected())
}
