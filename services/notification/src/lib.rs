//! The notification service: it tells customers how their orders ended, by mail when a mail
//! server is configured and always in its own ledger.
//!
//! It reacts to the order topic: `order.completed` asks for the message *confirmed*,
//! `order.cancelled` for *cancelled*. What became of it is told on the notification topic
//! (`notification.sent`, `notification.failed`).
//!
//! What holds at any time:
//!
//! * An order has at most one notification, hence never both kinds (unique in the table).
//! * Every attempt carries the same `Message-ID`, made from the order and the kind alone. SMTP
//!   cannot deduplicate, so a crash between the server's acceptance and our note of it can deliver
//!   a message twice, under one id: that is as good as it gets, and the mail ledger shows it.
//! * An attempt is counted and committed before it is made, outside any transaction, under a lease:
//!   two replicas do not send one message at once, and a crashed one's messages are taken over.
//! * Only a replica with a mail server touches what was queued for one; one without records what it
//!   consumes as sent, in the same transaction, and sends nothing.
//!
//! Failure: without its broker the service has nothing to do, so it is unready; a mail server that
//! is away or busy is tried again with growing pauses; one that refuses for good ends in FAILED.

pub mod app;
mod config;
mod consumer;
pub mod domain;
mod grpc;
pub mod mail;
mod store;

use std::sync::Arc;

pub use config::{Config, SmtpConfig};
pub use consumer::{GROUP, OrderHandler};
pub use grpc::Api;
use portolan_messaging::{Waker, open};
use portolan_proto::{
    Topic, notification::v1::notification_service_server::NotificationServiceServer,
    ops::v1::dead_letter_service_server::DeadLetterServiceServer,
};
use portolan_runtime::{
    Context, Service, TlsConfig,
    config::{ServerConfig, TelemetryConfig},
    grpc as server,
};
use sqlx::{PgPool, migrate::Migrator};
use tokio::sync::Notify;

use crate::{
    app::{Delivery, Mode},
    mail::Mailer,
};

/// The service's tables. What a later version has added is left alone, so that a deployment can be
/// rolled back.
pub static MIGRATOR: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!() };

/// What the service listens to.
pub const TOPICS: &[Topic] = &[Topic::Order];

/// The service as a process.
#[derive(Debug)]
pub struct Notification;

impl Service for Notification {
    const NAME: &'static str = "notification";
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
        let messaging = open(&ctx, &config.database, &config.kafka, &MIGRATOR, true).await?;
        let (pool, waker) = (messaging.pool.clone(), messaging.waker.clone());
        let mailer = Mailer::new(&config.smtp)?;
        let mode = if mailer.is_some() { Mode::Send } else { Mode::Record };
        let worker = Arc::new(Notify::new());
        if let Some(mailer) = mailer {
            spawn_delivery(&ctx, &pool, mailer, &config.smtp, &worker, waker);
        }
        let handler = Arc::new(OrderHandler::new(ctx.clock.clone(), ctx.ids.clone(), mode, worker));
        messaging.consume(&ctx, GROUP, TOPICS, Arc::clone(&handler)).await?;
        let dead_letters = messaging.dead_letters(&ctx, GROUP, handler);

        let api = NotificationServiceServer::new(Api::new(pool));
        let routes = tonic::service::Routes::new(api)
            .add_service(DeadLetterServiceServer::new(dead_letters));
        server::serve(&ctx, routes, &config.callers).await
    }
}

/// Starts the worker, only where there is a mail server: what waits for one (an earlier
/// configuration had it, or another replica has) must not be taken by a replica that has none.
fn spawn_delivery(
    ctx: &Context,
    pool: &PgPool,
    mailer: Mailer,
    config: &SmtpConfig,
    wake: &Arc<Notify>,
    relay: Waker,
) {
    let delivery = Delivery {
        pool: pool.clone(),
        mailer,
        policy: config.policy(),
        concurrency: config.concurrency,
        lease: config.lease(),
        clock: ctx.clock.clone(),
        ids: ctx.ids.clone(),
        wake: Arc::clone(wake),
        relay,
    };
    let stop = ctx.tasks.soft();
    ctx.tasks.spawn("notification-delivery", async move {
        delivery.run(stop).await;
        Ok(())
    });
}
