//! The order service: places orders, decides their outcome, and tells their story.
//!
//! It owns the database `portolan_order` and the topic `portolan.order.v1`. The order row is the
//! saga's only pivot: approval, rejection, refusal, deadline and the customer's cancellation race
//! on that row, and all other services merely react. What holds:
//!
//! * one order for each (customer, idempotency key), and always the same first answer;
//! * exactly one decision for each order, published if and only if it was committed;
//! * only this service knows the deadline, and only the database's clock counts.

pub mod app;
mod config;
pub mod consumer;
pub mod domain;
mod grpc;
mod schema;
pub mod store;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use app::{Batcher, Changes, PlaceOrder};
pub use config::{Config, OrdersConfig};
use portolan_lock::Redlock;
use portolan_messaging::{open, outbox};
use portolan_proto::{
    inventory::v1::inventory_service_client::InventoryServiceClient,
    ops::v1::dead_letter_service_server::DeadLetterServiceServer,
    order::v1::order_service_server::OrderServiceServer,
};
use portolan_runtime::{
    Context, ServerConfig, Service, TelemetryConfig, TlsConfig, database,
    grpc::{Guarded, RetryConfig, Retrying, channel},
};
pub use schema::MIGRATOR;
use sqlx::PgPool;

const BACKLOG_CHECK_EVERY: Duration = Duration::from_secs(1);

/// The process.
#[derive(Debug)]
pub struct OrderProcess;

impl Service for OrderProcess {
    const NAME: &'static str = "order";
    type Config = Config;

    fn server(config: &Config) -> &ServerConfig {
        &config.server
    }

    fn telemetry(config: &Config) -> &TelemetryConfig {
        &config.telemetry
    }

    fn tls(config: &Config) -> Option<&TlsConfig> {
        config.tls.as_ref()
    }

    async fn migrate(config: Config, ctx: Context) -> anyhow::Result<()> {
        portolan_messaging::migrate(&ctx, &config.database, &MIGRATOR).await
    }

    async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
        serve(&config, &ctx).await
    }
}

async fn serve(config: &Config, ctx: &Context) -> anyhow::Result<()> {
    let messaging = open(ctx, &config.database, &config.kafka, &MIGRATOR, false).await?;
    let (pool, waker) = (messaging.pool.clone(), messaging.waker.clone());
    let changes = Changes::default();
    let handler = consumer::OrderEvents { ids: Arc::clone(&ctx.ids), changes: changes.clone() };
    let handler = Arc::new(handler);
    messaging.consume(ctx, consumer::GROUP, consumer::TOPICS, Arc::clone(&handler)).await?;
    let dead_letters = messaging.dead_letters(ctx, consumer::GROUP, handler);
    app::spawn_sweeper(
        ctx,
        pool.clone(),
        waker.clone(),
        changes.clone(),
        Duration::from_millis(config.orders.sweep_interval_ms),
    );
    let place = placing(config, ctx, &pool, &waker)?;
    let (ids, tasks) = (Arc::clone(&ctx.ids), ctx.tasks.clone());
    let service = grpc::Service { pool, ids, tasks, waker, changes, place };
    let routes = tonic::service::Routes::new(OrderServiceServer::new(service))
        .add_service(DeadLetterServiceServer::new(dead_letters));
    portolan_runtime::grpc::serve(ctx, routes, &config.callers).await
}

fn placing(
    config: &Config,
    ctx: &Context,
    pool: &PgPool,
    waker: &portolan_messaging::Waker,
) -> anyhow::Result<PlaceOrder> {
    let lock = config.lock.as_ref().map(|lock| Redlock::start(ctx, lock)).transpose()?;
    let batcher = Batcher::spawn(
        ctx,
        pool.clone(),
        waker.clone(),
        config.orders.deadline(),
        config.orders.open_order_limit,
    );
    let channel = channel(ctx, &config.inventory_url, "inventory")?;
    let quotes = config.orders.concurrent_quotes;
    let channel = Guarded::new(channel, "inventory", config.breaker, quotes);
    let (retry, ids) = (RetryConfig::default(), Arc::clone(&ctx.ids));
    let channel = Retrying::new(channel, "inventory", &READS, retry, ids);
    Ok(PlaceOrder {
        pool: pool.clone(),
        inventory: InventoryServiceClient::new(channel),
        lock,
        batcher,
        backlog: watch_backlog(ctx, pool.clone(), config.orders.deadline() / 2),
    })
}

/// What changes nothing in inventory, however often it is asked.
const READS: [&str; 1] = ["/portolan.inventory.v1.InventoryService/Quote"];

/// An order whose events wait longer than half its deadline would be cancelled before anybody
/// heard of it: then it is kinder not to accept it.
fn watch_backlog(ctx: &Context, pool: PgPool, limit: Duration) -> Arc<AtomicBool> {
    let backlog = Arc::new(AtomicBool::new(false));
    let (flag, stop) = (Arc::clone(&backlog), ctx.tasks.soft());
    ctx.tasks.spawn("backlog watch", async move {
        while stop.run_until_cancelled(tokio::time::sleep(BACKLOG_CHECK_EVERY)).await.is_some() {
            let oldest = async {
                let mut conn = database::acquire(&pool).await?;
                outbox::oldest_age(&mut conn).await
            };
            if let Ok(age) = database::in_time(oldest).await {
                let age = age.unwrap_or_default();
                metrics::gauge!("portolan_outbox_oldest_seconds").set(age.as_secs_f64());
                flag.store(age > limit, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    backlog
}
