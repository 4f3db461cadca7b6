use std::{
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, SqlSafeStr as _, SqlStr, Transaction,
    pool::PoolConnection, postgres::PgConnectOptions,
};

use super::{access::statement_timeout, in_time};
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
    let connection = pool.acquire().await?;
    let inner = match limit(&pool.connect_options()) {
        Some(limit) => Inner::Limited(begin_on(connection, Some(limit)).await?),
        None => Inner::Usual(connection),
    };
    Ok(Held(inner))
}

/// A transaction with the limit of [`acquire`]. Whoever gives it up while it begins leaves nothing
/// behind, which cannot be said of the pool's own method.
///
/// # Errors
/// There is no connection to be had, or no transaction can be begun.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let connection = pool.acquire().await?;
    // Only now: the caller has waited for the connection, too.
    begin_on(connection, limit(&pool.connect_options())).await
}

/// In one round trip.
async fn begin_on(
    connection: PoolConnection<Postgres>,
    limit: Option<Duration>,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    Begun(Some(Transaction::begin(connection, limit.map(begin_within)))).await
}

fn begin_within(limit: Duration) -> SqlStr {
    // Zero would be no limit at all, and more than this the server refuses.
    let ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    AssertSqlSafe(format!("BEGIN; SET LOCAL statement_timeout = {ms}")).into_sql_str()
}

/// A `BEGIN` that was sent is followed to its end even when nobody waits for it any more. sqlx 0.9
/// forgets a transaction that was given up while it began, and the next user of the connection
/// would be in the middle of it (sqlx #4393).
struct Begun(Option<BoxFuture<'static, Result<Transaction<'static, Postgres>, sqlx::Error>>>);

impl Future for Begun {
    type Output = Result<Transaction<'static, Postgres>, sqlx::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Some(beginning) = &mut self.0 else { return Poll::Pending };
        let begun = ready!(beginning.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(begun)
    }
}

impl Drop for Begun {
    #[expect(clippy::disallowed_methods, reason = "the pool starts its tasks like this as well")]
    fn drop(&mut self) {
        if let Some(beginning) = self.0.take() {
            // A server that is gone would never let it end.
            tokio::spawn(async move { drop(in_time(beginning).await) });
        }
    }
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
