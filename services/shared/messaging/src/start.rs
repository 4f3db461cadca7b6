use portolan_runtime::{Context, DatabaseConfig, database};
use sqlx::{PgPool, migrate::Migrator};

use crate::{KafkaConfig, MIGRATOR, Relay, Waker, maintain_partitions, watch_broker};

/// Brings a service's database to the schema of its own migrations and of this crate's.
///
/// # Errors
/// The database cannot be reached, or a migration failed.
pub async fn migrate(database: &DatabaseConfig, schema: &Migrator) -> anyhow::Result<()> {
    let pool = database::connect(database).await?;
    database::migrate(&pool, &[&MIGRATOR, schema]).await
}

/// Opens a service's database, checks its schema, keeps its partitions, and begins to publish its
/// outbox. `needs_broker` says whether the service is unready, or merely degraded, without a broker.
///
/// # Errors
/// The database cannot be reached or has another schema, or librdkafka refuses the configuration.
pub async fn open(
    ctx: &Context,
    database: &DatabaseConfig,
    kafka: &KafkaConfig,
    schema: &Migrator,
    needs_broker: bool,
) -> anyhow::Result<(PgPool, Waker)> {
    let pool = database::connect(database).await?;
    database::require_schema(&pool, &[&MIGRATOR, schema]).await?;
    database::watch(ctx, &pool).await;
    watch_broker(ctx, kafka, ctx.readiness.register("kafka", needs_broker))?;
    maintain_partitions(ctx, &pool).await?;
    let relay = Relay::new(pool.clone(), kafka)?;
    let waker = relay.waker();
    relay.spawn(ctx);
    Ok((pool, waker))
}
