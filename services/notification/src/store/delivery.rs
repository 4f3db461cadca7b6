use std::{collections::HashSet, time::Duration};

use portolan_kernel::{Money, OrderId};
use portolan_runtime::telemetry::TraceContext;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::notifications::kind;
use crate::domain::{Ending, Kind, Next, message_id};

/// A notification that this process may send until its lease ends.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) order: OrderId,
    pub(crate) user_id: String,
    pub(crate) ending: Ending,
    pub(crate) attempt: i32,
    pub(crate) created_at: OffsetDateTime,
    /// By the database's clock.
    pub(crate) age: Duration,
    pub(crate) trace: TraceContext,
}

/// What became of a claimed notification.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) order: OrderId,
    pub(crate) attempt: i32,
    pub(crate) next: Next,
    pub(crate) error: Option<String>,
}

/// Takes up to `limit` due notifications, and those whose lease ran out, and counts the attempt.
/// One statement, committed by itself before anything is sent.
pub(crate) async fn claim(
    pool: &PgPool,
    limit: i64,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"WITH due AS MATERIALIZED (
               SELECT order_id
               FROM notification
               WHERE state = 'PENDING' AND next_attempt_at <= clock_timestamp()
                  OR state = 'SENDING' AND lease_until <= clock_timestamp()
               ORDER BY next_attempt_at
               LIMIT $1
               FOR UPDATE SKIP LOCKED)
           UPDATE notification n
           SET state = 'SENDING', attempt = n.attempt + 1,
               lease_until = clock_timestamp() + make_interval(secs => $2)
           FROM due
           WHERE n.order_id = due.order_id
           RETURNING n.order_id, n.kind, n.user_id, n.amount_minor, n.currency, n.reason, n.attempt,
               n.created_at, n.trace,
               extract(epoch FROM clock_timestamp() - n.created_at)::float8 AS "age!""#,
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Claimed {
                order: OrderId(row.order_id),
                user_id: row.user_id,
                ending: ending(kind(&row.kind)?, row.amount_minor, row.currency, row.reason)?,
                attempt: row.attempt,
                created_at: row.created_at,
                age: Duration::try_from_secs_f64(row.age).unwrap_or_default(),
                trace: TraceContext::parse(&row.trace),
            })
        })
        .collect()
}

fn ending(
    kind: Kind,
    amount: Option<i64>,
    currency: Option<String>,
    reason: Option<String>,
) -> Result<Ending, sqlx::Error> {
    match kind {
        Kind::Confirmed => {
            let currency = currency.unwrap_or_default().parse();
            let currency = currency.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok(Ending::Completed(Money::new(amount.unwrap_or_default(), currency)))
        }
        Kind::Cancelled => Ok(Ending::Cancelled(reason.unwrap_or_default())),
    }
}

/// Writes down what the mail server accepted. An attempt is accepted once.
pub(crate) async fn record_acceptances(
    conn: &mut PgConnection,
    accepted: &[(OrderId, Kind, i32)],
    via: &str,
) -> Result<(), sqlx::Error> {
    if accepted.is_empty() {
        return Ok(());
    }
    let orders: Vec<Uuid> = accepted.iter().map(|(order, ..)| order.0).collect();
    let kinds: Vec<String> = accepted.iter().map(|(_, kind, _)| kind.as_str().to_owned()).collect();
    let ids: Vec<String> =
        accepted.iter().map(|(order, kind, _)| message_id(*order, *kind)).collect();
    let attempts: Vec<i32> = accepted.iter().map(|(.., attempt)| *attempt).collect();
    sqlx::query!(
        "INSERT INTO mail_ledger (order_id, kind, message_id, attempt, via)
         SELECT a.*, $5
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[]) AS a
         ON CONFLICT (message_id, attempt) DO NOTHING",
        &orders,
        &kinds,
        &ids,
        &attempts,
        via,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes results back, each guarded by its attempt: whoever lost the lease changes nothing.
/// Returns the orders whose result counted.
pub(crate) async fn finish(
    conn: &mut PgConnection,
    finished: &[Finished],
) -> Result<HashSet<OrderId>, sqlx::Error> {
    let orders: Vec<Uuid> = finished.iter().map(|one| one.order.0).collect();
    let attempts: Vec<i32> = finished.iter().map(|one| one.attempt).collect();
    let states: Vec<String> = finished.iter().map(|one| state(one.next).to_owned()).collect();
    let pauses: Vec<f64> = finished.iter().map(|one| pause(one.next).as_secs_f64()).collect();
    let errors: Vec<Option<String>> = finished.iter().map(|one| one.error.clone()).collect();
    sqlx::query!(
        "SELECT order_id FROM notification WHERE order_id = ANY ($1) ORDER BY order_id FOR UPDATE",
        &orders
    )
    .fetch_all(&mut *conn)
    .await?;
    let counted = sqlx::query_scalar!(
        "UPDATE notification n
         SET state = f.state, lease_until = NULL, last_error = f.error,
             sent_at = CASE WHEN f.state = 'SENT' THEN clock_timestamp() END,
             next_attempt_at = clock_timestamp() + make_interval(secs => f.pause)
         FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::float8[], $5::text[])
             AS f (order_id, attempt, state, pause, error)
         WHERE n.order_id = f.order_id AND n.attempt = f.attempt AND n.state = 'SENDING'
         RETURNING n.order_id",
        &orders,
        &attempts,
        &states,
        &pauses,
        &errors as &[Option<String>],
    )
    .fetch_all(conn)
    .await?;
    Ok(counted.into_iter().map(OrderId).collect())
}

const fn state(next: Next) -> &'static str {
    match next {
        Next::Sent => "SENT",
        Next::Retry(_) => "PENDING",
        Next::Failed => "FAILED",
    }
}

const fn pause(next: Next) -> Duration {
    match next {
        Next::Retry(pause) => pause,
        Next::Sent | Next::Failed => Duration::ZERO,
    }
}
