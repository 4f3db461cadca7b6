#![expect(clippy::unwrap_used, reason = "a test's preparations must succeed")]

use portolan_auth::{Identity, Role};
use portolan_kernel::{IdGen as _, OrderId};
use portolan_order::{Config, MIGRATOR, OrderProcess};
use portolan_proto::{
    Event, TOPICS, Topic,
    common::v1::{Money, OrderLine},
    inventory::v1::{
        self as inventory,
        inventory_service_server::{InventoryService, InventoryServiceServer},
    },
    order::v1::{self as proto, order_service_client::OrderServiceClient},
};
use portolan_runtime::{
    Callers, Context, Service as _,
    grpc::{Client, Remote},
};
use portolan_testkit::{SeqIds, TestDb, TestKafka, TestRedis, context, eventually};
use sqlx::{PgPool, migrate::Migrator};
use tonic::{Request, Response, Status};

pub(crate) use portolan_testkit::PATIENCE;
pub(crate) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// One or more replicas of the service with their database and topics.
pub(crate) struct Bench {
    db: TestDb,
    pub(crate) kafka: TestKafka,
    ids: SeqIds,
    replicas: Vec<Context>,
    quotes: Context,
    /// The masters of the lock; none for a service without.
    pub(crate) masters: Vec<TestRedis>,
}

impl Bench {
    /// Without a lock.
    pub(crate) async fn new(settings: serde_json::Value, replicas: usize) -> Self {
        Self::with_schema(&MIGRATOR, settings, replicas).await
    }

    /// With a lock over these masters.
    pub(crate) async fn locked(
        masters: Vec<TestRedis>,
        settings: serde_json::Value,
        replicas: usize,
    ) -> Self {
        Self::with(&MIGRATOR, masters, settings, replicas).await
    }

    pub(crate) async fn with_schema(
        schema: &Migrator,
        settings: serde_json::Value,
        replicas: usize,
    ) -> Self {
        Self::with(schema, Vec::new(), settings, replicas).await
    }

    async fn with(
        schema: &Migrator,
        masters: Vec<TestRedis>,
        settings: serde_json::Value,
        replicas: usize,
    ) -> Self {
        let db = TestDb::new(&[&portolan_messaging::MIGRATOR, schema]).await;
        let mut kafka = TestKafka::new(&TOPICS).await;
        kafka.create(&["portolan.dlq.order.v1"]).await;
        let quotes = context();
        let routes = tonic::service::Routes::new(InventoryServiceServer::new(PriceList));
        portolan_runtime::grpc::serve(&quotes, routes, &Callers::default()).await.unwrap();
        let mut bench =
            Self { db, kafka, ids: SeqIds::new(), replicas: Vec::new(), quotes, masters };
        for _ in 0..replicas {
            let ctx = context();
            OrderProcess::serve(bench.config(&settings), ctx.clone()).await.unwrap();
            bench.replicas.push(ctx);
        }
        bench
    }

    /// The configuration of another process, which waits so long for its database.
    pub(crate) fn config_of(&self, connect_timeout_secs: u64) -> Config {
        let mut config = self.config(&serde_json::json!({}));
        config.database.connect_timeout_secs = connect_timeout_secs;
        config
    }

    /// With that process instead of those before.
    pub(crate) fn adopt(mut self, process: Context) -> Self {
        let before = std::mem::replace(&mut self.replicas, vec![process]);
        for ctx in before {
            ctx.tasks.soft().cancel();
        }
        self
    }

    fn config(&self, orders: &serde_json::Value) -> Config {
        let (brokers, prefix, partitions) = self.kafka.config_parts();
        serde_json::from_value(serde_json::json!({
            "server": { "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0" },
            "database": { "url": self.db.url() },
            "kafka": { "brokers": brokers, "topic_prefix": prefix, "partitions": partitions },
            "inventory_url": format!("http://{}", self.quotes.local_addr().unwrap()),
            "orders": orders,
            "lock": (!self.masters.is_empty()).then(|| self.lock_config()),
        }))
        .unwrap()
    }

    /// With more patience than in production: it must not depend on how busy the machine is.
    fn lock_config(&self) -> serde_json::Value {
        let masters: Vec<String> = self.masters.iter().map(TestRedis::address).collect();
        serde_json::json!({ "masters": masters, "instance_timeout_ms": 900, "budget_ms": 2_000 })
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.db.pool()
    }

    pub(crate) fn client(&self, replica: usize) -> OrderServiceClient<Client> {
        let ctx = &self.replicas[replica];
        let url = format!("http://{}", ctx.local_addr().unwrap());
        OrderServiceClient::new(portolan_runtime::grpc::channel(ctx, &url, "order").unwrap())
    }

    pub(crate) async fn place(
        &self,
        user: &str,
        key: &str,
    ) -> Result<proto::PlaceOrderResponse, Remote> {
        place(self.client(0), request(user, key, "A", 2)).await
    }

    /// Publishes an event about an order as the service that owns the topic would.
    pub(crate) async fn tell<E: Event>(&self, order: &str, version: i64, event: &E) {
        let (id, version) = (self.ids.next().to_string(), version.to_string());
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", &id),
            ("ce_type", E::TYPE),
            ("ce_source", E::TOPIC.source()),
            ("ce_time", "2026-11-21T08:00:00Z"),
            ("ce_aggregateversion", &version),
            ("traceparent", TRACEPARENT),
        ];
        self.kafka.produce(E::TOPIC, order, &headers, event.encode_to_vec()).await;
    }

    pub(crate) async fn get(&self, order: &str) -> proto::Order {
        let request = proto::GetOrderRequest { user_id: String::new(), order_id: order.to_owned() };
        let request = asked_by("olivia", Role::Operator, request);
        self.client(0).get_order(request).await.unwrap().into_inner().order.unwrap()
    }

    pub(crate) async fn becomes(&self, order: &str, status: proto::OrderStatus) -> proto::Order {
        eventually(PATIENCE, &format!("{order} becomes {status:?}"), async || {
            let order = self.get(order).await;
            (order.status() == status).then_some(order)
        })
        .await
    }

    pub(crate) async fn stats(&self, user: &str) -> proto::UserStats {
        let request = proto::GetUserStatsRequest { user_id: user.to_owned() };
        let request = asked_by(user, Role::Customer, request);
        self.client(0).get_user_stats(request).await.unwrap().into_inner().stats.unwrap()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.unwrap()
    }

    /// The types of the order's published events, in order, duplicates by redelivery removed.
    pub(crate) async fn published(&self, order: &str) -> Vec<String> {
        eventually(PATIENCE, "the outbox drains", async || {
            (self.count("SELECT count(*) FROM outbox").await == 0).then_some(())
        })
        .await;
        let mut seen = std::collections::HashSet::new();
        let records = self.kafka.consume_all(Topic::Order).await;
        records
            .iter()
            .filter(|record| record.key == order.as_bytes())
            .filter(|record| seen.insert(record.header("ce_id").map(str::to_owned)))
            .map(|record| record.header("ce_type").unwrap_or_default().to_owned())
            .collect()
    }

    pub(crate) fn unknown_order(&self) -> OrderId {
        OrderId(self.ids.next())
    }
}

/// The call as the gateway makes it for somebody.
pub(crate) fn asked_by<T>(user: &str, role: Role, message: T) -> Request<T> {
    let mut request = Request::new(message);
    Identity::new(user, &[role]).write(request.metadata_mut().as_mut());
    request
}

/// Three masters.
pub(crate) fn masters() -> Vec<TestRedis> {
    (0..3).map(|_| TestRedis::new()).collect()
}

/// The consumers' threads outlive the test's runtime unless they are told to stop.
impl Drop for Bench {
    fn drop(&mut self) {
        for ctx in self.replicas.iter().chain([&self.quotes]) {
            ctx.tasks.hard().cancel();
            ctx.tasks.soft().cancel();
        }
    }
}

pub(crate) fn request(user: &str, key: &str, sku: &str, quantity: u32) -> proto::PlaceOrderRequest {
    proto::PlaceOrderRequest {
        user_id: user.to_owned(),
        idempotency_key: key.to_owned(),
        lines: vec![OrderLine { sku: sku.to_owned(), quantity }],
        payment_token: "tok_ok".to_owned(),
    }
}

pub(crate) async fn place(
    mut client: OrderServiceClient<Client>,
    request: proto::PlaceOrderRequest,
) -> Result<proto::PlaceOrderResponse, Remote> {
    let user = request.user_id.clone();
    let request = asked_by(&user, Role::Customer, request);
    client.place_order(request).await.map(Response::into_inner).map_err(Remote::from)
}

/// Inventory as far as placing needs it: every product with one letter costs 125 pence, and `USD`
/// costs a dollar.
struct PriceList;

#[tonic::async_trait]
impl InventoryService for PriceList {
    async fn quote(
        &self,
        request: Request<inventory::QuoteRequest>,
    ) -> Result<Response<inventory::QuoteResponse>, Status> {
        let (known, unknown_skus): (Vec<_>, Vec<_>) =
            request.into_inner().skus.into_iter().partition(|sku| sku.len() == 1 || sku == "USD");
        let prices = known
            .into_iter()
            .map(|sku| {
                let (minor_units, currency) =
                    if sku == "USD" { (100, "USD") } else { (125, "GBP") };
                let price = Money { minor_units, currency: currency.to_owned() };
                inventory::QuotedPrice { sku, price: Some(price) }
            })
            .collect();
        Ok(Response::new(inventory::QuoteResponse { prices, unknown_skus }))
    }

    async fn list_products(
        &self,
        _: Request<inventory::ListProductsRequest>,
    ) -> Result<Response<inventory::ListProductsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn get_product(
        &self,
        _: Request<inventory::GetProductRequest>,
    ) -> Result<Response<inventory::GetProductResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn import_products(
        &self,
        _: Request<inventory::ImportProductsRequest>,
    ) -> Result<Response<inventory::ImportProductsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}
