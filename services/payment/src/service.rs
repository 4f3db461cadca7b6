use std::sync::Arc;

use portolan_messaging::open;
use portolan_proto::{
    ops::v1::dead_letter_service_server::DeadLetterServiceServer,
    payment::v1::payment_service_server::PaymentServiceServer,
};
use portolan_runtime::{Context, ServerConfig, Service, TelemetryConfig, TlsConfig, grpc};
use sqlx::migrate::Migrator;
use tonic::service::Routes;

use crate::{
    app::Settlement,
    config::Config,
    consumer::{GROUP, PaymentEvents, TOPICS},
    grpc::Payments,
    provider::Provider,
    worker::{Worker, watch_provider},
};

/// The service's own tables. What a later version has added is left alone, so that a deployment can
/// be rolled back.
pub static MIGRATOR: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!() };

/// The process `portolan-payment`.
#[derive(Clone, Copy, Debug)]
pub struct PaymentService;

impl Service for PaymentService {
    const NAME: &'static str = "payment";
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
        // Without events this service does nothing, so it is not ready without a broker.
        let messaging = open(&ctx, &config.database, &config.kafka, &MIGRATOR, true).await?;

        let provider = Provider::new(&config.psp, &ctx, config.poll())?;
        let check = ctx.readiness.register("provider", false);
        let watch = watch_provider(provider.clone(), check, ctx.tasks.soft());
        ctx.tasks.spawn("provider watch", watch);

        let settlement = Settlement {
            pool: messaging.pool.clone(),
            clock: Arc::clone(&ctx.clock),
            ids: Arc::clone(&ctx.ids),
            waker: messaging.waker.clone(),
            backoff: config.psp.backoff(),
        };
        let (worker, jobs) = Worker::new(settlement, provider, config.psp);
        ctx.tasks.spawn("payment worker", worker.run(ctx.tasks.clone()));

        let handler = Arc::new(PaymentEvents::new(jobs));
        messaging.consume(&ctx, GROUP, TOPICS, Arc::clone(&handler)).await?;
        let dead_letters = messaging.dead_letters(&ctx, GROUP, handler);
        let routes = Routes::new(PaymentServiceServer::new(Payments::new(messaging.pool)))
            .add_service(DeadLetterServiceServer::new(dead_letters));
        grpc::serve(&ctx, routes, &config.callers).await
    }
}
