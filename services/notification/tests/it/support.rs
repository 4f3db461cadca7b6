#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use portolan_kernel::{IdGen as _, OrderId, RandomIds, SystemClock};
use portolan_messaging::KafkaConfig;
use portolan_notification::{Config, MIGRATOR, Notification, SmtpConfig};
use portolan_proto::{
    Event, TOPICS, Topic,
    common::v1::Money,
    events::v1::{OrderCancelled, OrderCompleted},
    notification::v1::{
        ListNotificationsRequest, Notification as Shown,
        notification_service_client::NotificationServiceClient,
    },
    order::v1::CancelReason,
};
use portolan_runtime::{
    Callers, Context, Drained, Service as _,
    config::{ServerConfig, TelemetryConfig},
    grpc::{self, Client},
};
use portolan_testkit::{TestDb, TestKafka, TestRecord, context, eventually};
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) use portolan_testkit::PATIENCE;
const GRACE: Duration = Duration::from_secs(20);

/// A database and topics of its own.
pub(crate) struct Office {
    pub(crate) db: TestDb,
    pub(crate) kafka: TestKafka,
}

/// A running notification service.
pub(crate) struct Replica {
    pub(crate) client: NotificationServiceClient<Client>,
    ctx: Context,
}

impl Office {
    pub(crate) async fn open() -> Self {
        let db = TestDb::new(&[&portolan_messaging::MIGRATOR, &MIGRATOR]).await;
        let mut kafka = TestKafka::new(&TOPICS).await;
        kafka.create(&["portolan.dlq.notification.v1"]).await;
        Self { db, kafka }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.db.pool()
    }

    /// A replica without a mail server.
    pub(crate) async fn replica(&self) -> Replica {
        self.replica_with(SmtpConfig::default()).await
    }

    pub(crate) async fn replica_with(&self, smtp: SmtpConfig) -> Replica {
        let ctx = context();
        let address = ctx.local_addr().unwrap();
        let (brokers, topic_prefix, partitions) = self.kafka.config_parts();
        let mut database = self.db.config();
        database.max_connections = 4;
        let config = Config {
            server: ServerConfig {
                listen: address,
                admin_listen: address,
                grace_secs: 20,
                drain_delay_ms: 0,
                max_connection_age_secs: 0,
                max_connections: 1_024,
            },
            telemetry: TelemetryConfig::default(),
            tls: None,
            callers: Callers::default(),
            database,
            kafka: KafkaConfig {
                topic_prefix,
                partitions: partitions.try_into().unwrap(),
                max_batch_records: 64,
                max_batch_weight: 1_000,
                session_timeout_ms: 6_000,
                ..KafkaConfig::new(brokers)
            },
            smtp,
        };
        Notification::serve(config, ctx.clone()).await.unwrap();
        let channel = grpc::channel(&ctx, &format!("http://{address}"), "notification").unwrap();
        Replica { client: NotificationServiceClient::new(channel), ctx }
    }

    /// Appends an event of order `order` to the order topic; the same id again is a duplicate.
    pub(crate) async fn publish<E: Event>(
        &self,
        id: Uuid,
        order: OrderId,
        version: i64,
        event: &E,
    ) {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", &id.to_string()),
            ("ce_type", E::TYPE),
            ("ce_source", "/portolan/order"),
            ("ce_time", "2026-01-15T12:00:00Z"),
            ("ce_aggregateversion", &version.to_string()),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ];
        let key = order.to_string();
        self.kafka.produce(Topic::Order, key, &headers, event.encode_to_vec()).await;
    }

    pub(crate) async fn complete(&self, order: OrderId) -> Uuid {
        let id = new_id();
        self.publish(id, order, 4, &completed(order)).await;
        id
    }

    pub(crate) async fn cancel(&self, order: OrderId) -> Uuid {
        let id = new_id();
        self.publish(id, order, 2, &cancelled(order)).await;
        id
    }

    /// Kind and state of an order's notification.
    pub(crate) async fn stored(&self, order: OrderId) -> Vec<(String, String)> {
        sqlx::query_as("SELECT kind, state FROM notification WHERE order_id = $1")
            .bind(order.0)
            .fetch_all(self.pool())
            .await
            .unwrap()
    }

    pub(crate) async fn until_stored(&self, order: OrderId, kind: &str, state: &str) {
        let what = format!("order {order} is {kind} {state}");
        let expected = [(kind.to_owned(), state.to_owned())];
        eventually(PATIENCE, &what, async || (self.stored(order).await == expected).then_some(()))
            .await;
    }

    /// Waits until this event was consumed, whatever it did.
    pub(crate) async fn until_consumed(&self, event: Uuid) {
        eventually(PATIENCE, "the event is consumed", async || {
            let sql = "SELECT count(*) FROM inbox WHERE grp = 4 AND event_id = $1";
            (self.count(sql, event).await == 1).then_some(())
        })
        .await;
    }

    pub(crate) async fn count(&self, sql: &'static str, id: Uuid) -> i64 {
        sqlx::query_scalar(sql).bind(id).fetch_one(self.pool()).await.unwrap()
    }

    /// How often an order's message was handed over.
    pub(crate) async fn handed_over(&self, order: OrderId) -> i64 {
        self.count("SELECT count(*) FROM mail_ledger WHERE order_id = $1", order.0).await
    }

    /// The events told about an order, once the outbox is empty.
    pub(crate) async fn published(&self, order: OrderId) -> Vec<TestRecord> {
        eventually(PATIENCE, "the outbox is empty", async || {
            let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox")
                .fetch_one(self.pool())
                .await
                .unwrap();
            (rows == 0).then_some(())
        })
        .await;
        let mut records = self.kafka.consume_all(Topic::Notification).await;
        records.retain(|record| record.key == order.to_string().into_bytes());
        records
    }
}

/// A test that fails must not wait for threads that nobody told to stop.
impl Drop for Replica {
    fn drop(&mut self) {
        self.ctx.tasks.hard().cancel();
    }
}

impl Replica {
    pub(crate) async fn list(&mut self, order_id: &str) -> Result<Vec<Shown>, tonic::Status> {
        let request = ListNotificationsRequest { order_id: order_id.to_owned() };
        Ok(self.client.list_notifications(request).await?.into_inner().notifications)
    }

    /// Stops like a process that got SIGTERM.
    pub(crate) async fn stop(self) {
        assert_eq!(self.ctx.tasks.clone().shutdown(GRACE).await, Drained::InTime);
    }
}

pub(crate) fn new_id() -> Uuid {
    RandomIds(SystemClock).next()
}

pub(crate) fn new_order() -> OrderId {
    OrderId(new_id())
}

pub(crate) fn completed(order: OrderId) -> OrderCompleted {
    OrderCompleted {
        order_id: order.to_string(),
        user_id: "alice".to_owned(),
        amount: Some(Money { minor_units: 1_234, currency: "GBP".to_owned() }),
    }
}

pub(crate) fn cancelled(order: OrderId) -> OrderCancelled {
    OrderCancelled {
        order_id: order.to_string(),
        user_id: "alice".to_owned(),
        reason: CancelReason::OutOfStock.into(),
    }
}
