use std::time::Duration;

use portolan_runtime::Context;
use sqlx::PgPool;

use crate::handler::Group;

const EVERY: Duration = Duration::from_secs(15);

/// Measures the group's dead letters, what waits behind them, and the age of the oldest. Every
/// replica tells the same: take the maximum.
pub(crate) fn watch(ctx: &Context, pool: PgPool, group: Group) {
    let stop = ctx.tasks.soft();
    ctx.tasks.spawn("dead letter watch", async move {
        loop {
            if let Err(error) = measure(&pool, group).await {
                tracing::debug!(%error, "dead letters not counted");
            }
            if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return Ok(());
            }
        }
    });
}

async fn measure(pool: &PgPool, group: Group) -> Result<(), sqlx::Error> {
    let found = sqlx::query!(
        r#"SELECT count(reason) AS "dead!", count(*) - count(reason) AS "waiting!",
             extract(epoch FROM clock_timestamp() - min(at))::float8 AS age
         FROM parked WHERE grp = $1"#,
        group.id,
    )
    .fetch_one(pool)
    .await?;
    let age = found.age.unwrap_or_default().max(0.0);
    #[expect(clippy::cast_precision_loss, reason = "a metric")]
    let (dead, waiting) = (found.dead as f64, found.waiting as f64);
    metrics::gauge!("portolan_dead_letters", "group" => group.name).set(dead);
    metrics::gauge!("portolan_parked_records", "group" => group.name).set(waiting);
    metrics::gauge!("portolan_dead_letter_oldest_seconds", "group" => group.name).set(age);
    Ok(())
}
