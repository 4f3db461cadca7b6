use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{OrderRow, lines_to_json};

/// How long the first answer is replayed.
const ANSWER_KEPT: Duration = Duration::hours(24);

/// A row of the idempotency table about to be written.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The customer.
    pub user_id: String,
    /// The customer's key.
    pub key: String,
    /// SHA-256 of the canonical request.
    pub fingerprint: Vec<u8>,
    /// The order it makes.
    pub order_id: Uuid,
    /// The encoded answer.
    pub response: Vec<u8>,
}

/// An answer given before.
#[derive(Clone, Debug)]
pub struct Answer {
    /// SHA-256 of the request it answered.
    pub fingerprint: Vec<u8>,
    /// The encoded answer.
    pub response: Vec<u8>,
}

/// The answer stored for a key.
pub async fn find_answer(
    conn: &mut PgConnection,
    user_id: &str,
    key: &str,
) -> Result<Option<Answer>, sqlx::Error> {
    sqlx::query_as!(
        Answer,
        "SELECT fingerprint, response FROM idempotency WHERE user_id = $1 AND key = $2",
        user_id,
        key,
    )
    .fetch_optional(conn)
    .await
}

/// Claims keys in order and returns the ids of the orders whose claim succeeded. Waits for a
/// concurrent claim of the same key to commit or roll back.
pub async fn claim(
    conn: &mut PgConnection,
    claims: &[Claim],
    at: OffsetDateTime,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let users: Vec<String> = claims.iter().map(|c| c.user_id.clone()).collect();
    let keys: Vec<String> = claims.iter().map(|c| c.key.clone()).collect();
    let fingerprints: Vec<Vec<u8>> = claims.iter().map(|c| c.fingerprint.clone()).collect();
    let orders: Vec<Uuid> = claims.iter().map(|c| c.order_id).collect();
    let responses: Vec<Vec<u8>> = claims.iter().map(|c| c.response.clone()).collect();
    sqlx::query_scalar!(
        r#"INSERT INTO idempotency (user_id, key, fingerprint, order_id, response, expires_at)
           SELECT user_id, key, fingerprint, order_id, response, $6
           FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[], $5::bytea[])
               AS e (user_id, key, fingerprint, order_id, response)
           ORDER BY user_id COLLATE "C", key COLLATE "C"
           ON CONFLICT DO NOTHING
           RETURNING order_id"#,
        &users,
        &keys,
        &fingerprints,
        &orders,
        &responses,
        at + ANSWER_KEPT,
    )
    .fetch_all(conn)
    .await
}

/// Gives up claims (customer and key) whose placement was refused, so that the key is as if never
/// used.
pub async fn unclaim(
    conn: &mut PgConnection,
    claims: &[(String, String)],
) -> Result<(), sqlx::Error> {
    if claims.is_empty() {
        return Ok(());
    }
    let (users, keys): (Vec<String>, Vec<String>) = claims.iter().cloned().unzip();
    sqlx::query!(
        "DELETE FROM idempotency
         USING unnest($1::text[], $2::text[]) AS e (user_id, key)
         WHERE idempotency.user_id = e.user_id AND idempotency.key = e.key",
        &users,
        &keys,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes answers that are older than they are kept.
pub async fn purge_answers(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM idempotency WHERE (user_id, key) IN (
             SELECT user_id, key FROM idempotency WHERE expires_at < now() LIMIT 1000 FOR UPDATE SKIP LOCKED
         )"
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Inserts new orders. `keys` are their idempotency keys and `fingerprints` the hashes of their
/// requests, in the same order.
pub async fn insert_orders(
    conn: &mut PgConnection,
    orders: &[OrderRow],
    keys: &[String],
    fingerprints: &[Vec<u8>],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = orders.iter().map(|o| o.id.0).collect();
    let users: Vec<String> = orders.iter().map(|o| o.user_id.clone()).collect();
    let amounts: Vec<i64> = orders.iter().map(|o| o.amount_minor).collect();
    let currencies: Vec<String> = orders.iter().map(|o| o.currency.clone()).collect();
    let lines: Vec<serde_json::Value> = orders.iter().map(|o| lines_to_json(&o.lines)).collect();
    let deadlines: Vec<OffsetDateTime> = orders.iter().map(|o| o.deadline).collect();
    let traces: Vec<String> = orders.iter().map(|o| o.traceparent.clone()).collect();
    let times: Vec<OffsetDateTime> = orders.iter().map(|o| o.created_at).collect();
    sqlx::query!(
        "INSERT INTO orders (id, user_id, idempotency_key, fingerprint, state, amount_minor, currency,
                             lines, version, deadline, traceparent, created_at, updated_at)
         SELECT id, user_id, key, fingerprint, 'PENDING', amount, currency, lines, 1, deadline,
                trace, at, at
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::jsonb[],
                     $7::timestamptz[], $8::text[], $9::timestamptz[], $10::bytea[])
             AS e (id, user_id, key, amount, currency, lines, deadline, trace, at, fingerprint)",
        &ids,
        &users,
        keys,
        &amounts,
        &currencies,
        &lines,
        &deadlines,
        &traces,
        &times,
        fingerprints,
    )
    .execute(conn)
    .await?;
    Ok(())
}
