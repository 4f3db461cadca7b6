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
use portolan_messaging::open;
use portolan_proto::{
    Topic, inventory::v1::inventory_service_server::InventoryServiceServer,
    ops::v1::dead_letter_service_server::DeadLetterServiceServer,
};
use portolan_runtime::{
    Context, Service, TlsConfig,
    config::{ServerConfig, TelemetryConfig},
    grpc as server,
};
use sqlx::migrate::Migrator;

/// The service's tables. What a later version has added is left alone, so that a deployment can be
/// rolled back.
pub static MIGRATOR: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!() };

/// What the service listens to.
pub const TOPICS: &[Topic] = &[Topic::Order];

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

    fn tls(config: &Config) -> Option<&TlsConfig> {
        config.tls.as_ref()
    }

    async fn migrate(config: Config, ctx: Context) -> anyhow::Result<()> {
        portolan_messaging::migrate(&ctx, &config.database, &MIGRATOR).await
    }

    async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
        let messaging = open(&ctx, &config.database, &config.kafka, &MIGRATOR, false).await?;
        let handler = Arc::new(OrderHandler::new(ctx.clock.clone(), ctx.ids.clone()));
        messaging.consume(&ctx, GROUP, TOPICS, Arc::clone(&handler)).await?;
        let dead_letters = messaging.dead_letters(&ctx, GROUP, handler);

        let api = InventoryServiceServer::new(Api::new(messaging.pool, ctx.ids.clone()));
        let routes = tonic::service::Routes::new(api)
            .add_service(DeadLetterServiceServer::new(dead_letters));
        server::serve(&ctx, routes, &config.callers).await
    }
}
