//! The SQL of the provider's ledger.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{problem::Problem, rules::AuthorizationStatus};

/// What the provider answered, and repeats for ever.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Operation {
    pub(super) idempotency_key: String,
    pub(super) kind: String,
    pub(super) authorization_key: String,
    pub(super) order_id: Option<Uuid>,
    pub(super) amount_minor: Option<i64>,
    pub(super) currency: Option<String>,
    pub(super) outcome: String,
    pub(super) code: Option<String>,
    pub(super) reference: String,
    #[serde(skip)]
    pub(super) request_sha256: Vec<u8>,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
}

/// An authorisation whose row is locked.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) key: String,
    pub(super) status: AuthorizationStatus,
    pub(super) order_id: Option<Uuid>,
    pub(super) amount_minor: Option<i64>,
    pub(super) currency: Option<String>,
    pub(super) capture_refused: bool,
}

pub(super) async fn operation(
    conn: &mut PgConnection,
    idempotency_key: &str,
) -> Result<Option<Operation>, sqlx::Error> {
    sqlx::query_as!(
        Operation,
        "SELECT idempotency_key, kind, authorization_key, order_id, amount_minor, currency,
                outcome, code, reference, request_sha256, created_at
         FROM operation
         WHERE idempotency_key = $1",
        idempotency_key,
    )
    .fetch_optional(conn)
    .await
}

/// Adds an operation. False if the key is taken.
pub(super) async fn insert_operation(
    conn: &mut PgConnection,
    operation: &Operation,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query!(
        "INSERT INTO operation (idempotency_key, kind, authorization_key, order_id, amount_minor,
                                currency, outcome, code, reference, request_sha256, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (idempotency_key) DO NOTHING",
        operation.idempotency_key,
        operation.kind,
        operation.authorization_key,
        operation.order_id,
        operation.amount_minor,
        operation.currency,
        operation.outcome,
        operation.code,
        operation.reference,
        operation.request_sha256,
        operation.created_at,
    )
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Locks the authorisation's row, making a tombstone of it if there is none, and says whether it
/// was new. Whoever comes second waits here until the first has committed.
pub(super) async fn lock_or_create(
    conn: &mut PgConnection,
    key: &str,
) -> Result<(Authorization, bool), Problem> {
    let created = sqlx::query!(
        "INSERT INTO authorization_state (authorization_key, status) VALUES ($1, 'tombstone')
         ON CONFLICT (authorization_key) DO NOTHING",
        key,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected()
        == 1;
    let authorization = lock(conn, key).await?;
    let authorization = authorization.ok_or_else(|| Problem::Corrupt(format!("{key} vanished")))?;
    Ok((authorization, created))
}

/// Locks the authorisation's row, if there is one.
pub(super) async fn lock(
    conn: &mut PgConnection,
    key: &str,
) -> Result<Option<Authorization>, Problem> {
    let row = sqlx::query!(
        "SELECT status, order_id, amount_minor, currency, capture_refused
         FROM authorization_state
         WHERE authorization_key = $1
         FOR UPDATE",
        key,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let status = AuthorizationStatus::parse(&row.status)
        .ok_or_else(|| Problem::Corrupt(format!("{key} is {}", row.status)))?;
    Ok(Some(Authorization {
        key: key.to_owned(),
        status,
        order_id: row.order_id,
        amount_minor: row.amount_minor,
        currency: row.currency,
        capture_refused: row.capture_refused,
    }))
}

pub(super) async fn save(
    conn: &mut PgConnection,
    authorization: &Authorization,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE authorization_state
         SET status = $2, order_id = $3, amount_minor = $4, currency = $5, capture_refused = $6,
             updated_at = now()
         WHERE authorization_key = $1",
        authorization.key,
        authorization.status.as_str(),
        authorization.order_id,
        authorization.amount_minor,
        authorization.currency,
        authorization.capture_refused,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What was paid back of an authorisation so far, in minor units.
pub(super) async fn refunded(
    conn: &mut PgConnection,
    authorization_key: &str,
) -> Result<i64, sqlx::Error> {
    let sum = sqlx::query_scalar!(
        "SELECT coalesce(sum(amount_minor), 0)::bigint FROM operation
         WHERE authorization_key = $1 AND kind = 'refund' AND outcome = 'refunded'",
        authorization_key,
    )
    .fetch_one(conn)
    .await?;
    Ok(sum.unwrap_or(0))
}

/// Counts an attempt with a key, and returns how many there were with this one.
pub(super) async fn count_attempt(
    conn: &mut PgConnection,
    authorization_key: &str,
) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        "INSERT INTO authorization_attempt AS a (authorization_key, attempts) VALUES ($1, 1)
         ON CONFLICT (authorization_key) DO UPDATE SET attempts = a.attempts + 1
         RETURNING attempts",
        authorization_key,
    )
    .fetch_one(conn)
    .await
}
