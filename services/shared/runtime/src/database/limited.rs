use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction, pool::PoolConnection,
    postgres::PgConnectOptions,
};

use super::access::statement_timeout;
use crate::deadline;

/// A connection for what a request reads.
#[derive(Debug)]
pub struct Held(Inner);

#[derive(Debug)]
enum Inner {
    Usual(PoolConnection<Postgres>),
    /// The limit is that of a transaction, so that it does not outlast it.
    Limited(Transaction<'static, Postgres>),
}

/// A connection on which no statement goes on for longer than the caller of the request waited
/// ([`deadline::time_left`]) when it was taken: the server cancels it. Where nobody waits, or for
/// longer than a statement may take anyway, it is any connection of the pool. What is written on it
/// may be rolled back: for that there is [`begin`].
///
/// # Errors
/// There is no connection to be had.
pub async fn acquire(pool: &PgPool) -> Result<Held, sqlx::Error> {
    let inner = match limit(&pool.connect_options()) {
        Some(limit) => Inner::Limited(begin_within(pool, limit).await?),
        None => Inner::Usual(pool.acquire().await?),
    };
    Ok(Held(inner))
}

/// A transaction with the limit of [`acquire`].
///
/// # Errors
/// There is no connection to be had, or no transaction can be begun.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    match limit(&pool.connect_options()) {
        Some(limit) => begin_within(pool, limit).await,
        None => pool.begin().await,
    }
}

/// In one round trip.
async fn begin_within(
    pool: &PgPool,
    limit: Duration,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    // Zero would be no limit at all.
    let ms = limit.as_millis().max(1);
    let begin = format!("BEGIN; SET LOCAL statement_timeout = {ms}");
    pool.begin_with(AssertSqlSafe(begin)).await
}

/// What is left of the caller's time, if that is less than a statement may take anyway.
fn limit(options: &PgConnectOptions) -> Option<Duration> {
    let left = deadline::time_left()?;
    statement_timeout(options).is_none_or(|usual| left < usual).then_some(left)
}

impl Deref for Held {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.0 {
            Inner::Usual(connection) => connection,
            Inner::Limited(transaction) => transaction,
        }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.0 {
            Inner::Usual(connection) => connection,
            Inner::Limited(transaction) => transaction,
        }
    }
}
