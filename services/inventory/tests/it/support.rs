#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use portolan_inventory::{Config, Inventory, MIGRATOR};
use portolan_kernel::{IdGen as _, OrderId, RandomIds, SystemClock};
use portolan_messaging::KafkaConfig;
use portolan_proto::{
    Event, TOPICS, Topic,
    common::v1::{Money, PricedLine},
    events::v1::{OrderCancelled, OrderConfirmed, OrderPlaced},
    inventory::v1::{
        ImportProductsRequest, ImportProductsResponse, ImportedProduct,
        inventory_service_client::InventoryServiceClient,
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
pub(crate) const GROUP: i16 = 2;
const GRACE: Duration = Duration::from_secs(20);

/// A database and topics of its own.
pub(crate) struct Shop {
    pub(crate) db: TestDb,
    pub(crate) kafka: TestKafka,
}

/// A running inventory service.
pub(crate) struct Replica {
    pub(crate) client: InventoryServiceClient<Client>,
    ctx: Context,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let db = TestDb::new(&[&portolan_messaging::MIGRATOR, &MIGRATOR]).await;
        let mut kafka = TestKafka::new(&TOPICS).await;
        kafka.create(&["portolan.dlq.inventory.v1"]).await;
        Self { db, kafka }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.db.pool()
    }

    pub(crate) async fn replica(&self) -> Replica {
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
        };
        Inventory::serve(config, ctx.clone()).await.unwrap();
        let channel = grpc::channel(&ctx, &format!("http://{address}"), "inventory").unwrap();
        Replica { client: InventoryServiceClient::new(channel), ctx }
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

    pub(crate) async fn place(&self, order: OrderId, lines: &[(&str, u32)]) -> Uuid {
        let id = new_id();
        self.publish(id, order, 1, &placed(order, lines)).await;
        id
    }

    pub(crate) async fn confirm(&self, order: OrderId) -> Uuid {
        let id = new_id();
        self.publish(id, order, 2, &confirmed(order)).await;
        id
    }

    pub(crate) async fn cancel(&self, order: OrderId) -> Uuid {
        let id = new_id();
        self.publish(id, order, 3, &cancelled(order)).await;
        id
    }

    /// What is available and what is reserved of a SKU.
    pub(crate) async fn stock(&self, sku: &str) -> (i64, i64) {
        sqlx::query_as("SELECT available, reserved FROM stock WHERE sku = $1")
            .bind(sku)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    pub(crate) async fn state(&self, order: OrderId) -> Option<String> {
        sqlx::query_scalar("SELECT state FROM reservation WHERE order_id = $1")
            .bind(order.0)
            .fetch_optional(self.pool())
            .await
            .unwrap()
    }

    pub(crate) async fn until_state(&self, order: OrderId, state: &str) {
        let what = format!("order {order} is {state}");
        eventually(PATIENCE, &what, async || {
            (self.state(order).await.as_deref() == Some(state)).then_some(())
        })
        .await;
    }

    /// Waits until this event was consumed, whatever it did.
    pub(crate) async fn until_consumed(&self, event: Uuid) {
        eventually(PATIENCE, "the event is consumed", async || {
            self.count("SELECT count(*) FROM inbox WHERE grp = 2 AND event_id = $1", event)
                .await
                .eq(&1)
                .then_some(())
        })
        .await;
    }

    pub(crate) async fn count(&self, sql: &'static str, id: Uuid) -> i64 {
        sqlx::query_scalar(sql).bind(id).fetch_one(self.pool()).await.unwrap()
    }

    pub(crate) async fn ledger(&self, order: OrderId) -> Vec<(String, String, i64, i64, i64)> {
        sqlx::query_as(
            "SELECT kind, sku, delta_on_hand, delta_available, delta_reserved FROM stock_ledger
             WHERE order_id = $1 ORDER BY at, kind, sku",
        )
        .bind(order.0)
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    /// The types of the events told about an order, once the outbox is empty.
    pub(crate) async fn told(&self, order: OrderId) -> Vec<String> {
        let records = self.published(order).await;
        records.iter().map(short_type).collect()
    }

    /// The events told about an order, once the outbox is empty.
    pub(crate) async fn published(&self, order: OrderId) -> Vec<TestRecord> {
        self.until_relayed().await;
        let mut records = self.kafka.consume_all(Topic::Inventory).await;
        records.retain(|record| record.key == order.to_string().into_bytes());
        records
    }

    pub(crate) async fn until_relayed(&self) {
        eventually(PATIENCE, "the outbox is empty", async || {
            let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox")
                .fetch_one(self.pool())
                .await
                .unwrap();
            (rows == 0).then_some(())
        })
        .await;
    }

    /// What must hold at any time: see the invariants in the crate's documentation.
    pub(crate) async fn audit(&self) {
        let broken: Vec<(String, String)> = sqlx::query_as(
            "SELECT 'ledger does not add up', s.sku
             FROM stock s LEFT JOIN stock_ledger l USING (sku)
             GROUP BY s.sku
             HAVING s.on_hand <> coalesce(sum(l.delta_on_hand), 0)
                 OR s.available <> coalesce(sum(l.delta_available), 0)
                 OR s.reserved <> coalesce(sum(l.delta_reserved), 0)
             UNION ALL
             SELECT 'reserved is not the sum of the lines', s.sku
             FROM stock s
             WHERE s.reserved <> (
                 SELECT coalesce(sum(l.quantity), 0)
                 FROM reservation_line l JOIN reservation r USING (order_id)
                 WHERE l.sku = s.sku AND r.state = 'RESERVED')
             UNION ALL
             SELECT 'told twice', key::text FROM event_log GROUP BY key, type HAVING count(*) > 1",
        )
        .fetch_all(self.pool())
        .await
        .unwrap();
        assert_eq!(broken, []);
    }
}

/// A test that fails must not wait for threads that nobody told to stop.
impl Drop for Replica {
    fn drop(&mut self) {
        self.ctx.tasks.hard().cancel();
    }
}

impl Replica {
    /// Imports products of this name and stock, at 85 pence.
    pub(crate) async fn import(&mut self, products: &[(&str, i64)]) -> ImportProductsResponse {
        let products = products.iter().map(|(sku, quantity)| product(sku, *quantity)).collect();
        let request = ImportProductsRequest { products };
        self.client.import_products(request).await.unwrap().into_inner()
    }

    /// Stops like a process that got SIGTERM.
    pub(crate) async fn stop(self) {
        assert_eq!(self.ctx.tasks.clone().shutdown(GRACE).await, Drained::InTime);
    }
}

pub(crate) fn product(sku: &str, quantity: i64) -> ImportedProduct {
    ImportedProduct {
        sku: sku.to_owned(),
        name: format!("PRODUCT {sku}"),
        price: Some(Money { minor_units: 85, currency: "GBP".to_owned() }),
        quantity,
    }
}

pub(crate) fn new_id() -> Uuid {
    RandomIds(SystemClock).next()
}

pub(crate) fn new_order() -> OrderId {
    OrderId(new_id())
}

pub(crate) fn placed(order: OrderId, lines: &[(&str, u32)]) -> OrderPlaced {
    let line = |(sku, quantity): &(&str, u32)| PricedLine {
        sku: (*sku).to_owned(),
        quantity: *quantity,
        unit_price_minor: 85,
    };
    OrderPlaced {
        order_id: order.to_string(),
        user_id: "alice".to_owned(),
        lines: lines.iter().map(line).collect(),
        amount: Some(Money { minor_units: 170, currency: "GBP".to_owned() }),
        payment_token: "tok_ok_1".to_owned(),
        placed_at: Some(prost_types::Timestamp { seconds: 1_795_248_000, nanos: 0 }),
        deadline: Some(prost_types::Timestamp { seconds: 1_795_248_900, nanos: 0 }),
    }
}

pub(crate) fn confirmed(order: OrderId) -> OrderConfirmed {
    OrderConfirmed { order_id: order.to_string(), user_id: "alice".to_owned() }
}

pub(crate) fn cancelled(order: OrderId) -> OrderCancelled {
    OrderCancelled {
        order_id: order.to_string(),
        user_id: "alice".to_owned(),
        reason: CancelReason::Customer.into(),
    }
}

/// `inventory.reserved` for `portolan.inventory.reserved.v1`.
fn short_type(record: &TestRecord) -> String {
    let full = record.header("ce_type").unwrap_or_default();
    full.trim_start_matches("portolan.").trim_end_matches(".v1").to_owned()
}
