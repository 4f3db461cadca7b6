use std::time::Duration;

use portolan_runtime::{Context, database};
use sqlx::PgPool;
use time::{Date, OffsetDateTime};

const EVERY: Duration = Duration::from_hours(1);
/// How long the inbox remembers: longer than the topics' retention, so that whatever Kafka can still
/// deliver is known.
const KEEP_DAYS: i32 = 14;

/// The first day that the inbox surely remembers. Of an event that is older nobody can tell any
/// more whether it was applied.
pub(crate) fn oldest_day(now: OffsetDateTime) -> Date {
    now.date() - time::Duration::days(i64::from(KEEP_DAYS))
}

/// Makes sure that the day partitions of inbox and event log exist, now and every hour.
///
/// # Errors
/// The first time fails.
pub(crate) async fn maintain_partitions(ctx: &Context, pool: &PgPool) -> Result<(), sqlx::Error> {
    maintain(pool).await?;
    let (pool, stop) = (pool.clone(), ctx.tasks.soft());
    ctx.tasks.spawn("partition maintenance", async move {
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = maintain(&pool).await {
                tracing::warn!(%error, "partitions not maintained; the next hour tries again");
            }
        }
        Ok(())
    });
    Ok(())
}

async fn maintain(pool: &PgPool) -> Result<(), sqlx::Error> {
    let maintained =
        sqlx::query_scalar!("SELECT maintain_partitions($1)::text", KEEP_DAYS).fetch_one(pool);
    database::in_time(maintained).await.map(drop)
}
