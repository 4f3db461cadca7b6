#![expect(clippy::unwrap_used, reason = "a test's preparations must succeed")]

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use portolan_kernel::{IdGen as _, OrderId};
use portolan_messaging::{
    Group, Handler, HandlerError, Kafka, KafkaConfig, MIGRATOR, Outgoing, Record, Relay, open,
    ops::DeadLetters, outbox,
};
use portolan_proto::{TOPICS, Topic, events::v1::OrderConfirmed};
use portolan_runtime::{Context, database, telemetry::TraceContext};
use portolan_testkit::{SeqIds, TestDb, TestKafka, TestRecord, context, eventually};
use sqlx::{Executor as _, PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use crate::roles::{self, OWNER, RUNTIME};

pub(crate) const GROUP: Group = Group { id: 9, name: "test" };
pub(crate) use portolan_testkit::PATIENCE;
pub(crate) const POISON: &str = "poison";
pub(crate) const PANIC: &str = "panic";
pub(crate) const GATE: &str = "gate";

/// A service's process and its database, as a member of the runtime role sees it.
pub(crate) struct Shop {
    pub(crate) db: TestDb,
    pub(crate) ctx: Context,
    pub(crate) ids: SeqIds,
    pool: PgPool,
    versions: AtomicI64,
    pub(crate) bug: Arc<Bug>,
}

/// What makes the handler refuse poison, and what it waits for.
#[derive(Debug)]
pub(crate) struct Bug {
    fixed: AtomicBool,
    arrived: Notify,
    gate: Semaphore,
}

impl Bug {
    fn new() -> Self {
        Self { fixed: AtomicBool::new(false), arrived: Notify::new(), gate: Semaphore::new(0) }
    }

    /// From now on poison is applied like anything else.
    pub(crate) fn fix(&self) {
        self.fixed.store(true, Ordering::SeqCst);
    }

    /// Waits until the handler stands before an event of the user [`GATE`].
    pub(crate) async fn at_gate(&self) {
        tokio::time::timeout(PATIENCE, self.arrived.notified()).await.unwrap();
    }

    /// Lets it through, now and ever after.
    pub(crate) fn open_gate(&self) {
        self.gate.close();
    }
}

impl Shop {
    pub(crate) async fn new() -> Self {
        let (db, ctx) = (TestDb::new(&[]).await, context());
        roles::divide(&db).await;
        let owner = roles::config(&db, OWNER);
        portolan_messaging::migrate(&ctx, &owner, &MIGRATOR).await.unwrap();
        let owner = database::connect(&ctx, &owner).await.unwrap();
        owner
            .execute("CREATE TABLE applied (n bigint GENERATED ALWAYS AS IDENTITY, key uuid, event_id uuid)")
            .await
            .unwrap();
        owner.close().await;
        let pool = database::connect(&ctx, &roles::config(&db, RUNTIME)).await.unwrap();
        let bug = Arc::new(Bug::new());
        Self { db, ctx, ids: SeqIds::new(), pool, versions: 0.into(), bug }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// What a service does at its start. The handler fails that often before it succeeds.
    pub(crate) async fn start(
        &self,
        kafka: &KafkaConfig,
        failures: usize,
    ) -> anyhow::Result<DeadLetters<Applier>> {
        let database = roles::config(&self.db, RUNTIME);
        let (failures, bug) = (AtomicUsize::new(failures), Arc::clone(&self.bug));
        let handler = Arc::new(Applier { failures, bug });
        let messaging = open(&self.ctx, &database, kafka, &MIGRATOR, true).await?;
        messaging.consume(&self.ctx, GROUP, &[Topic::Order], Arc::clone(&handler)).await?;
        Ok(messaging.dead_letters(&self.ctx, GROUP, handler))
    }

    pub(crate) fn event(&self, key: OrderId, user: &str) -> Outgoing {
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let message = OrderConfirmed { order_id: key.to_string(), user_id: user.to_owned() };
        let at = OffsetDateTime::UNIX_EPOCH;
        Outgoing::new(self.ids.next(), key, version, at, &TraceContext::default(), &message)
    }

    pub(crate) fn key(&self) -> OrderId {
        OrderId(self.ids.next())
    }

    /// Commits events one by one, in order.
    pub(crate) async fn commit(&self, events: &[Outgoing]) {
        for event in events {
            let mut tx = database::begin(self.pool()).await.unwrap();
            outbox::append(&mut tx, std::slice::from_ref(event)).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    pub(crate) async fn outbox_empty(&self) {
        eventually(PATIENCE, "the outbox drains", async || {
            (count(self.pool(), "SELECT count(*) FROM outbox").await == 0).then_some(())
        })
        .await;
    }

    /// Waits until the group has an inbox row for that many records.
    pub(crate) async fn received(&self, records: i64) {
        eventually(PATIENCE, "the inbox fills", async || {
            (count(self.pool(), "SELECT count(*) FROM inbox").await >= records).then_some(())
        })
        .await;
    }

    /// Event ids in the order in which they were applied.
    pub(crate) async fn applied(&self, key: OrderId) -> Vec<Uuid> {
        sqlx::query_scalar("SELECT event_id FROM applied WHERE key = $1 ORDER BY n")
            .bind(key.0)
            .fetch_all(self.pool())
            .await
            .unwrap()
    }
}

/// A shop with topics of its own on the test broker.
pub(crate) struct Bench {
    shop: Shop,
    pub(crate) kafka: TestKafka,
    pub(crate) config: KafkaConfig,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let mut kafka = TestKafka::new(&TOPICS).await;
        kafka.create(&["portolan.dlq.test.v1"]).await;
        let (brokers, topic_prefix, partitions) = kafka.config_parts();
        let partitions = usize::try_from(partitions).unwrap();
        let config = KafkaConfig { topic_prefix, partitions, ..KafkaConfig::new(brokers) };
        Self { shop: Shop::new().await, kafka, config }
    }

    pub(crate) fn start_relay(&self) {
        let kafka = Kafka::load(&self.ctx, &self.config).unwrap();
        Relay::new(self.pool().clone(), &kafka).unwrap().spawn(&self.ctx);
    }

    pub(crate) async fn start_consumer(&self, failures: usize) -> DeadLetters<Applier> {
        self.start(&self.config, failures).await.unwrap()
    }

    pub(crate) async fn published(&self) -> Vec<TestRecord> {
        self.kafka.consume_all(Topic::Order).await
    }
}

impl Deref for Bench {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

/// The consumer's thread outlives the test's runtime unless it is told to stop, and cannot hear it at
/// the gate.
impl Drop for Shop {
    fn drop(&mut self) {
        self.ctx.tasks.soft().cancel();
        self.bug.open_gate();
    }
}

pub(crate) async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Writes down what it is given; fails as a database would, or refuses poison.
#[derive(Debug)]
pub(crate) struct Applier {
    failures: AtomicUsize,
    bug: Arc<Bug>,
}

impl Handler for Applier {
    type Applied = ();

    async fn apply(&self, tx: &mut PgConnection, records: &[Record]) -> Result<(), HandlerError> {
        for record in records {
            let message: OrderConfirmed = record.decode()?;
            sqlx::query("INSERT INTO applied (key, event_id) VALUES ($1, $2)")
                .bind(record.key.0)
                .bind(record.event_id)
                .execute(&mut *tx)
                .await?;
            assert_ne!(message.user_id, PANIC);
            if message.user_id == GATE {
                self.bug.arrived.notify_one();
                // An error says that the gate is open for good.
                let _ = self.bug.gate.acquire().await;
            }
            if message.user_id == POISON && !self.bug.fixed.load(Ordering::SeqCst) {
                return Err(HandlerError::impossible("test", "poison"));
            }
        }
        let failed = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if failed.is_ok() {
            return Err(HandlerError::conflict("injected"));
        }
        Ok(())
    }
}
