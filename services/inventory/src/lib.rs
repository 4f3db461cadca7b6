//! The inventory service: it owns the catalogue, its prices and the stock, and sets goods aside
//! for orders.
//!
//! It reacts to the order topic and to nothing else. `order.placed` reserves every line or rejects
//! the order as a whole; `order.confirmed` lets the goods leave; `order.cancelled` gives them back,
//! whether it comes before, during or after what it undoes. What really changed is told on the
//! inventory topic (`inventory.reserved`, `.rejected`, `.committed`, `.released`), by the
//! transaction that changed it. There is no timeout here: the order service alone decides.
//!
//! What holds at any time:
//!
//! * No SKU's `available` or `reserved` is negative, and what is on hand is their sum: nothing is
//!   ever sold twice, however many replicas run.
//! * `reserved` of a SKU is the sum over the lines of RESERVED orders.
//! * The ledger adds up to the stock, and has each effect of an order once (its primary key).
//! * An order has at most one reservation, whose state only moves along [`domain::decide`].
//!
//! Failure: a lost database makes the service unready and stops the consumer until it is back; a
//! lost broker only degrades it, because the catalogue can still be read and priced.

pub mod app;
mod config;
mod consumer;
pub mod domain;
mod grpc;
mod store;

use std::sync::Arc;

pub use config::Config;
pub use consumer::{GROUP, OrderHandler};
pub use grpc::Api;
use portolan_messaging::{open, spawn_consumer};
use portolan_proto::{Topic, inventory::v1::inventory_service_server::InventoryServiceServer};
use portolan_runtime::{
    Context, Service,
    config::{ServerConfig, TelemetryConfig},
    grpc as server,
};
use sqlx::migrate::Migrator;

/// The service's tables.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// What the service listens to.
const TOPICS: &[Topic] = &[Topic::Order];

/// The service as a process.
#[derive(Debug)]
pub struct Inventory;

impl Service for Inventory {
    const NAME: &'static str = "inventory";
    type Config = Config;

    fn server(config: &Config) -> &ServerConfig {
        &config.server
    }

    fn telemetry(config: &Config) -> &TelemetryConfig {
        &config.telemetry
    }

    async fn migrate(config: Config) -> anyhow::Result<()> {
        portolan_messaging::migrate(&config.database, &MIGRATOR).await
    }

    async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
        let (pool, waker) = open(&ctx, &config.database, &config.kafka, &MIGRATOR, false).await?;
        let handler = Arc::new(OrderHandler::new(ctx.clock.clone(), ctx.ids.clone()));
        spawn_consumer(&ctx, pool.clone(), &config.kafka, GROUP, TOPICS, handler, waker).await?;

        let api = InventoryServiceServer::new(Api::new(pool, ctx.ids.clone()));
        server::serve(&ctx, tonic::service::Routes::new(api)).await
    }
}
