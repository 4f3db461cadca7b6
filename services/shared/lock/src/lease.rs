use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use portolan_kernel::IdGen;
use portolan_runtime::Tasks;
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Guard, LockError, UserLock};

/// The lock as a row with an expiry. Taking it is one statement that commits by itself, so a held
/// lock holds no connection and no row lock.
pub struct LeaseLock {
    pool: PgPool,
    tasks: Tasks,
    ids: Arc<dyn IdGen>,
    ttl: Duration,
}

impl LeaseLock {
    /// Leases of `ttl` in the table `user_lock` of this database.
    pub fn new(pool: PgPool, tasks: Tasks, ids: Arc<dyn IdGen>, ttl: Duration) -> Self {
        Self { pool, tasks, ids, ttl }
    }

    async fn try_acquire(&self, user: &str, purpose: &str, floor: i64) -> Result<Guard, LockError> {
        let (asked, holder) = (Instant::now(), self.ids.next());
        let token = self
            .take(user, purpose, holder, floor)
            .await
            .map_err(|error| LockError::Unavailable(error.into()))?;
        match token {
            Some(token) => Ok(self.guard(user, holder, token, asked)),
            None => Err(self.busy(user, purpose).await),
        }
    }

    async fn take(
        &self,
        user: &str,
        purpose: &str,
        holder: Uuid,
        floor: i64,
    ) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar!(
            "INSERT INTO user_lock AS l (user_id, holder, purpose, token, expires_at)
             VALUES (
                 $1, $2, $3,
                 greatest($4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
                 clock_timestamp() + make_interval(secs => $5)
             )
             ON CONFLICT (user_id) DO UPDATE SET
                 holder = excluded.holder,
                 purpose = excluded.purpose,
                 token = greatest(l.token + 1, excluded.token),
                 expires_at = excluded.expires_at
             WHERE l.expires_at <= clock_timestamp()
             RETURNING token",
            user,
            holder,
            purpose,
            floor,
            self.ttl.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await
    }

    async fn busy(&self, user: &str, purpose: &str) -> LockError {
        let holder = sqlx::query_scalar!("SELECT purpose FROM user_lock WHERE user_id = $1", user)
            .fetch_optional(&self.pool)
            .await;
        match holder {
            Ok(holder) => LockError::Busy { same_purpose: holder.as_deref() == Some(purpose) },
            Err(error) => LockError::Unavailable(error.into()),
        }
    }

    fn guard(&self, user: &str, holder: Uuid, token: i64, asked: Instant) -> Guard {
        let (pool, tasks, user) = (self.pool.clone(), self.tasks.clone(), user.to_owned());
        Guard::new(token, asked, self.ttl, move || {
            tasks.spawn_request(async move {
                if let Err(error) = release(&pool, &user, holder).await {
                    tracing::debug!(%error, "lease not released; it will run out");
                }
            });
        })
    }
}

/// The row stays: it remembers the largest token.
async fn release(pool: &PgPool, user: &str, holder: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE user_lock SET expires_at = '-infinity' WHERE user_id = $1 AND holder = $2",
        user,
        holder,
    )
    .execute(pool)
    .await?;
    Ok(())
}

impl UserLock for LeaseLock {
    fn acquire<'a>(
        &'a self,
        user: &'a str,
        purpose: &'a str,
        floor: i64,
    ) -> BoxFuture<'a, Result<Guard, LockError>> {
        Box::pin(self.try_acquire(user, purpose, floor))
    }
}

impl fmt::Debug for LeaseLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseLock").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
