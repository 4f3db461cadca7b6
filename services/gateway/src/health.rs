use std::time::Duration;

use portolan_runtime::{Check, Context, grpc};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::config::Config;

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Reports whether the services behind us answer. They are not required: the gateway serves
/// problem documents without them, and taking every gateway out of service would help nobody.
pub(crate) fn watch(ctx: &Context, config: &Config) -> anyhow::Result<()> {
    for (name, url) in [("order", &config.order_url), ("inventory", &config.inventory_url)] {
        let client = HealthClient::new(grpc::channel(ctx, url, name)?);
        let check = ctx.readiness.register(name, false);
        let soft = ctx.tasks.soft();
        ctx.tasks.spawn("health", async move {
            soft.run_until_cancelled(probe(client, check)).await;
            Ok(())
        });
    }
    Ok(())
}

async fn probe(mut client: HealthClient<grpc::Client>, check: Check) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request = grpc::deadline(HealthCheckRequest::default(), TIMEOUT);
        match client.check(request).await {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => check.ok(),
            Ok(_) => check.fail("not serving"),
            Err(_) => check.fail("does not answer"),
        }
    }
}
