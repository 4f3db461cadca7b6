use std::sync::Arc;

use portolan_proto::Topic;
use portolan_runtime::{Check, Context, DatabaseConfig, database};
use sqlx::{PgPool, migrate::Migrator};

use crate::{
    Group, Handler, KafkaConfig, MIGRATOR, Relay, Waker,
    broker::Broker,
    consumer::spawn_members,
    kafka::Kafka,
    ops::{self, DeadLetters},
    partitions::maintain_partitions,
    topics,
};

/// Brings a service's database to the schema of its own migrations and of this crate's.
///
/// # Errors
/// The database cannot be reached, or a migration failed.
pub async fn migrate(
    ctx: &Context,
    database: &DatabaseConfig,
    schema: &Migrator,
) -> anyhow::Result<()> {
    let pool = database::connect(ctx, database).await?;
    database::migrate(&pool, &[&MIGRATOR, schema]).await
}

/// A service's database, and its part in the exchange of events.
#[derive(Clone, Debug)]
pub struct Messaging {
    /// The service's database.
    pub pool: PgPool,
    /// What to call after a commit that wrote events.
    pub waker: Waker,
    kafka: Kafka,
    check: Check,
}

/// Opens a service's database, checks its schema, keeps its partitions, and begins to publish its
/// outbox. `needs_broker` says whether the service is unready, or merely degraded, without a broker.
///
/// # Errors
/// The database cannot be reached or has another schema, a certificate file is of no use, or
/// librdkafka refuses the configuration.
pub async fn open(
    ctx: &Context,
    database: &DatabaseConfig,
    kafka: &KafkaConfig,
    schema: &Migrator,
    needs_broker: bool,
) -> anyhow::Result<Messaging> {
    let check = ctx.readiness.register("kafka", needs_broker);
    let pool = database::open(ctx, database, &[&MIGRATOR, schema]).await?;
    maintain_partitions(ctx, &pool).await?;
    let kafka = Kafka::load(ctx, kafka)?;
    let relay = Relay::new(pool.clone(), &kafka)?;
    let waker = relay.waker();
    relay.spawn(ctx);
    Ok(Messaging { pool, waker, kafka, check })
}

impl Messaging {
    /// Waits for a broker and for the topics that the service uses, then joins `group` on `topics`
    /// and applies what arrives until shutdown.
    ///
    /// # Errors
    /// In the configured time no broker answers, or a topic is missing or has another number of
    /// partitions than configured.
    pub async fn consume<H: Handler>(
        &self,
        ctx: &Context,
        group: Group,
        topics: &[Topic],
        handler: Arc<H>,
    ) -> anyhow::Result<()> {
        let used = topics::used(group, topics);
        let mut broker = Broker::new(&self.kafka, &used, self.check.clone())?;
        broker.wait().await?;
        broker.watch(ctx);
        spawn_members(ctx, &self.pool, &self.kafka, group, topics, &handler, &self.waker)?;
        ops::watch(ctx, self.pool.clone(), group);
        Ok(())
    }

    /// What an operator can do with the group's dead letters, with the handler that
    /// [`Self::consume`] has.
    pub fn dead_letters<H: Handler>(
        &self,
        ctx: &Context,
        group: Group,
        handler: Arc<H>,
    ) -> DeadLetters<H> {
        DeadLetters {
            pool: self.pool.clone(),
            group,
            handler,
            clock: Arc::clone(&ctx.clock),
            waker: self.waker.clone(),
        }
    }
}
