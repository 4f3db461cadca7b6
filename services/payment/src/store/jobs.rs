use std::time::Duration;

use portolan_kernel::OrderId;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Error, payments::money};
use crate::{
    domain::{Call, CardToken, Step},
    provider::Question,
};

/// A call to the provider that this worker alone is to make, until the lease ends.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to ask.
    pub question: Question,
    /// Which call it is.
    pub call: Call,
    /// The trace it belongs to (`traceparent`).
    pub trace: String,
}

/// Which jobs to claim.
#[derive(Clone, Debug)]
pub enum Due {
    /// Those of these orders that are due.
    Of(Vec<OrderId>),
    /// Whatever is due.
    Any,
}

struct Raw {
    order_id: Uuid,
    state: String,
    attempt: i32,
    amount: Option<i64>,
    currency: Option<String>,
    payment_token: Option<String>,
    trace: String,
}

/// Takes up to `limit` jobs that are due and that nobody else has, for the time of the lease.
/// The attempt is counted here and committed before the call is made, so that `attempt = 0`
/// proves that the provider was never called.
///
/// A payment whose order's time is up is not begun, but one that was begun is brought to its end.
///
/// # Errors
/// The database's.
pub async fn claim(
    pool: &PgPool,
    due: &Due,
    limit: usize,
    lease: Duration,
) -> Result<Vec<Job>, Error> {
    let ids: Option<Vec<Uuid>> = match due {
        Due::Of(orders) => Some(orders.iter().map(|order| order.0).collect()),
        Due::Any => None,
    };
    let rows = sqlx::query_as!(
        Raw,
        "WITH due AS (
             SELECT order_id
             FROM payment
             WHERE next_attempt_at <= now()
               AND (lease_until IS NULL OR lease_until <= now())
               AND (state <> 'AUTHORIZING' OR attempt > 0 OR deadline > now())
               AND ($1::uuid[] IS NULL OR order_id = ANY($1))
             ORDER BY next_attempt_at
             LIMIT $2
             FOR UPDATE SKIP LOCKED
         )
         UPDATE payment AS p
         SET attempt = p.attempt + 1, lease_until = now() + $3 * interval '1 ms'
         FROM due
         WHERE p.order_id = due.order_id
         RETURNING p.order_id, p.state, p.attempt, p.amount, p.currency, p.payment_token, p.trace",
        ids.as_deref(),
        i64::try_from(limit).unwrap_or(i64::MAX),
        lease.as_secs_f64() * 1_000.0,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(job).collect()
}

fn job(raw: Raw) -> Result<Job, Error> {
    let corrupt = |what| Error::Corrupt { order: raw.order_id, what };
    let status = raw.state.parse().map_err(|_| corrupt("state"))?;
    let step = Step::of(status).ok_or(corrupt("state"))?;
    let attempt = u32::try_from(raw.attempt).map_err(|_| corrupt("attempt"))?;
    Ok(Job {
        question: Question {
            order: OrderId(raw.order_id),
            step,
            amount: money(raw.amount, raw.currency.as_deref()).map_err(corrupt)?,
            token: raw.payment_token.map(CardToken::new),
        },
        call: Call { step, attempt },
        trace: raw.trace,
    })
}

/// How many payments wait for the provider, and for how many seconds the oldest of them has been
/// due.
///
/// # Errors
/// The database's.
pub async fn waiting(pool: &PgPool) -> Result<(i64, f64), Error> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "count!",
                  coalesce(extract(epoch FROM now() - min(next_attempt_at)), 0)::float8 AS "age!"
           FROM payment
           WHERE next_attempt_at IS NOT NULL"#
    )
    .fetch_one(pool)
    .await?;
    Ok((row.count, row.age.max(0.0)))
}
