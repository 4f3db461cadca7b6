//! The provider and the service, in this process but on real sockets, and a hand that writes
//! records for them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use portolan_kernel::{IdGen as _, OrderId, RandomIds, SystemClock};
use portolan_messaging::KafkaConfig;
use portolan_payment::{
    Config, PaymentService, ProviderConfig,
    domain::{Payment, Status},
    psp::{self, Simulator},
    store,
};
use portolan_proto::{
    Event, Topic,
    common::v1::Money,
    events::v1::{InventoryReserved, OrderCancelled, OrderConfirmed},
};
use portolan_runtime::{Callers, Context, ServerConfig, Service as _, TelemetryConfig};
use portolan_testkit::{TestDb, TestKafka, TestRecord, context, eventually};
use serde_json::Value;
use sqlx::PgPool;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::TcpListener;

/// What every order in these tests costs, in pence.
pub(crate) const AMOUNT: i64 = 1_250;
pub(crate) const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
pub(crate) use portolan_testkit::PATIENCE;
/// How long `tok_late` takes: longer than the service waits.
const LATE: Duration = Duration::from_millis(1_200);
const CALL_TIMEOUT_MS: u64 = 400;

pub(crate) fn now() -> OffsetDateTime {
    portolan_kernel::Clock::now(&SystemClock)
}

pub(crate) fn new_order() -> OrderId {
    OrderId(RandomIds(SystemClock).next())
}

/// The provider on a socket.
pub(crate) struct Psp {
    pub(crate) db: TestDb,
    pub(crate) url: String,
    ctx: Context,
    http: reqwest::Client,
}

impl Psp {
    pub(crate) async fn start() -> Self {
        Self::on(context()).await
    }

    /// On a port chosen before.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is still free");
        Self::on(Context::new("psp", Some(listener))).await
    }

    async fn on(ctx: Context) -> Self {
        portolan_runtime::install_crypto();
        let db = TestDb::new(&[&psp::MIGRATOR]).await;
        let simulator = Simulator::new(ctx.clone(), db.pool().clone(), LATE);
        portolan_runtime::http::serve(&ctx, psp::router(simulator)).await.unwrap();
        let url = format!("http://{}", ctx.local_addr().unwrap());
        let http = portolan_runtime::http_client(Duration::from_secs(20)).unwrap();
        Self { db, url, ctx, http }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        answer(request.send().await.unwrap()).await
    }

    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// The answer stored under a key, none if there is none.
    pub(crate) async fn operation(&self, key: &str) -> Option<Value> {
        let request = self.request(reqwest::Method::GET, &format!("/v1/operations/{key}"));
        let (status, body) = self.send(request).await;
        (status == 200).then_some(body)
    }

    pub(crate) async fn outcome(&self, key: &str) -> Option<String> {
        let operation = self.operation(key).await?;
        operation["outcome"].as_str().map(ToOwned::to_owned)
    }

    /// How many decided requests the ledger has for an order, of whatever kind.
    pub(crate) async fn operations_of(&self, order: OrderId) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM operation WHERE idempotency_key LIKE '%' || $1")
            .bind(order.to_string())
            .fetch_one(self.db.pool())
            .await
            .unwrap()
    }

    pub(crate) async fn stop(self) {
        let _ = self.ctx.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let problem = response.headers()["content-type"].as_bytes() == b"application/problem+json";
    assert_eq!(problem, status >= 400, "problems, and only they, are problem+json");
    (status, response.json().await.unwrap())
}

/// A record that was written, to be written again.
#[derive(Clone)]
pub(crate) struct Sent {
    topic: Topic,
    key: String,
    headers: Vec<(String, String)>,
    payload: Vec<u8>,
}

/// The service's replicas with what they need.
pub(crate) struct Shop {
    pub(crate) kafka: TestKafka,
    pub(crate) db: TestDb,
    pub(crate) replicas: Vec<Context>,
    psp_url: String,
    timeout_ms: u64,
}

impl Shop {
    pub(crate) async fn start(psp_url: &str, replicas: usize) -> Self {
        Self::start_with_timeout(psp_url, replicas, CALL_TIMEOUT_MS).await
    }

    pub(crate) async fn start_with_timeout(
        psp_url: &str,
        replicas: usize,
        timeout_ms: u64,
    ) -> Self {
        portolan_runtime::install_crypto();
        let db = TestDb::new(&[&portolan_messaging::MIGRATOR, &portolan_payment::MIGRATOR]).await;
        let mut kafka = TestKafka::new(&portolan_proto::TOPICS).await;
        kafka.create(&["portolan.dlq.payment.v1"]).await;
        let psp_url = psp_url.to_owned();
        let mut shop = Self { kafka, db, replicas: Vec::new(), psp_url, timeout_ms };
        for _ in 0..replicas {
            shop.add_replica().await;
        }
        shop
    }

    pub(crate) async fn add_replica(&mut self) {
        let ctx = context();
        PaymentService::serve(self.config(&ctx), ctx.clone()).await.unwrap();
        self.replicas.push(ctx);
    }

    pub(crate) fn provider(&self) -> ProviderConfig {
        ProviderConfig {
            timeout_ms: self.timeout_ms,
            concurrency: 8,
            retry_base_ms: 50,
            retry_cap_ms: 200,
            ..ProviderConfig::new(self.psp_url.clone())
        }
    }

    fn config(&self, ctx: &Context) -> Config {
        let (brokers, topic_prefix, partitions) = self.kafka.config_parts();
        let listen = ctx.local_addr().unwrap();
        Config {
            server: server(listen),
            telemetry: TelemetryConfig::default(),
            tls: None,
            callers: Callers::default(),
            database: self.db.config(),
            kafka: KafkaConfig {
                topic_prefix,
                partitions: usize::try_from(partitions).unwrap(),
                max_batch_records: 64,
                ..KafkaConfig::new(brokers)
            },
            psp: self.provider(),
        }
    }

    /// Writes an event as the service would that it comes from.
    pub(crate) async fn tell<E: Event>(&self, order: OrderId, version: i64, event: &E) -> Sent {
        let headers = [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", RandomIds(SystemClock).next().to_string()),
            ("ce_type", E::TYPE.to_owned()),
            ("ce_source", E::TOPIC.source().to_owned()),
            ("ce_time", now().format(&Rfc3339).unwrap()),
            ("ce_aggregateversion", version.to_string()),
            ("traceparent", format!("00-{TRACE_ID}-b7ad6b7169203331-01")),
        ];
        let sent = Sent {
            topic: E::TOPIC,
            key: order.to_string(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            payload: event.encode_to_vec(),
        };
        self.repeat(&sent).await;
        sent
    }

    /// Writes the very same record again.
    pub(crate) async fn repeat(&self, sent: &Sent) {
        let headers: Vec<(&str, &str)> =
            sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.kafka.produce(sent.topic, &sent.key, &headers, &sent.payload).await;
    }

    pub(crate) async fn reserved(&self, order: OrderId, token: &str) -> Sent {
        self.reserved_until(order, token, now() + Duration::from_mins(15)).await
    }

    pub(crate) async fn reserved_until(
        &self,
        order: OrderId,
        token: &str,
        deadline: OffsetDateTime,
    ) -> Sent {
        let event = InventoryReserved {
            order_id: order.to_string(),
            user_id: "alice".to_owned(),
            amount: Some(Money { minor_units: AMOUNT, currency: "GBP".to_owned() }),
            payment_token: format!("{token}_{order}"),
            deadline: Some(prost_types::Timestamp { seconds: deadline.unix_timestamp(), nanos: 0 }),
        };
        self.tell(order, 1, &event).await
    }

    pub(crate) async fn confirmed(&self, order: OrderId) -> Sent {
        let event = OrderConfirmed { order_id: order.to_string(), user_id: "alice".to_owned() };
        self.tell(order, 3, &event).await
    }

    pub(crate) async fn cancelled(&self, order: OrderId) -> Sent {
        let event =
            OrderCancelled { order_id: order.to_string(), user_id: "alice".to_owned(), reason: 1 };
        self.tell(order, 3, &event).await
    }

    pub(crate) async fn payment(&self, order: OrderId) -> Option<Payment> {
        store::find(self.db.pool(), order).await.unwrap().map(|row| row.payment)
    }

    /// Waits until the payment has this status.
    pub(crate) async fn reaches(&self, order: OrderId, status: Status) -> Payment {
        eventually(PATIENCE, status.as_str(), async || {
            self.payment(order).await.filter(|payment| payment.status == status)
        })
        .await
    }

    /// Waits until the provider was called at least once for the present step.
    pub(crate) async fn attempted(&self, order: OrderId) {
        eventually(PATIENCE, "an attempt", async || {
            self.payment(order).await.filter(|payment| payment.attempt > 0)
        })
        .await;
    }

    /// Waits until everything is published, and returns what the service told of an order: the
    /// types without prefix and version, in order.
    pub(crate) async fn told(&self, order: OrderId) -> Vec<String> {
        self.records(order).await.iter().map(kind).collect()
    }

    pub(crate) async fn records(&self, order: OrderId) -> Vec<TestRecord> {
        published(self.db.pool()).await;
        let key = order.to_string().into_bytes();
        let mut records = self.kafka.consume_all(Topic::Payment).await;
        records.retain(|record| record.key == key);
        records
    }

    /// The kinds in the money ledger.
    pub(crate) async fn ledger(&self, order: OrderId) -> Vec<(String, i64)> {
        sqlx::query_as("SELECT kind, amount FROM payment_ledger WHERE order_id = $1 ORDER BY kind")
            .bind(order.0)
            .fetch_all(self.db.pool())
            .await
            .unwrap()
    }

    pub(crate) async fn stop(self) {
        for ctx in &self.replicas {
            let _ = ctx.tasks.clone().shutdown(Duration::from_secs(10)).await;
        }
    }
}

impl Drop for Shop {
    /// A test that fails must not wait for consumers that nobody stopped.
    fn drop(&mut self) {
        for ctx in &self.replicas {
            ctx.tasks.soft().cancel();
        }
    }
}

pub(crate) const fn server(listen: SocketAddr) -> ServerConfig {
    ServerConfig {
        listen,
        admin_listen: listen,
        grace_secs: 5,
        drain_delay_ms: 0,
        max_connection_age_secs: 0,
        max_connections: 1_024,
    }
}

async fn published(pool: &PgPool) {
    eventually(PATIENCE, "an empty outbox", async || {
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(pool).await.unwrap();
        (rows == 0).then_some(())
    })
    .await;
}

pub(crate) fn kind(record: &TestRecord) -> String {
    let kind = record.header("ce_type").unwrap();
    kind.trim_start_matches("portolan.payment.").trim_end_matches(".v1").to_owned()
}

/// A settlement as the worker has it, for answers that come from nowhere.
pub(crate) fn settlement(shop: &Shop) -> portolan_payment::app::Settlement {
    portolan_payment::app::Settlement {
        pool: shop.db.pool().clone(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds(SystemClock)),
        waker: portolan_messaging::Waker::default(),
        backoff: shop.provider().backoff(),
    }
}
