use std::{any::Any, time::Duration};

use anyhow::Context as _;
use axum::{extract::Request, middleware::Next, response::Response};
use tokio::{sync::watch, time::Instant};
use tonic::{
    Code, Status,
    body::Body,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

use crate::{Context, telemetry::TraceContext};

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `routes` on the context's port, together with the standard health service, whose answer
/// for the empty service name is our readiness. Each request runs in a span that continues the
/// caller's trace, within the caller's `grpc-timeout`; a panic is `INTERNAL` for its caller alone.
///
/// # Errors
/// The port is being served already.
pub async fn serve(ctx: &Context, routes: Routes) -> anyhow::Result<()> {
    let listener = ctx.take_listener()?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let soft = ctx.tasks.soft();
    let readiness = ctx.readiness.watch();
    ctx.tasks.spawn("grpc-health", {
        let soft = soft.clone();
        async move {
            soft.run_until_cancelled(mirror(reporter, readiness)).await;
            Ok(())
        }
    });
    let routes = observed(routes.add_service(health));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, soft.cancelled_owned());
    ctx.tasks.spawn("grpc", async move { server.await.context("the gRPC server failed") });
    std::future::ready(Ok(())).await
}

/// Tells the health service what readiness says, for ever.
async fn mirror(reporter: HealthReporter, mut readiness: watch::Receiver<bool>) {
    loop {
        let ready = *readiness.borrow_and_update();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        if readiness.changed().await.is_err() {
            return;
        }
    }
}

fn observed(routes: Routes) -> Routes {
    let methods = routes
        .prepare()
        .into_axum_router()
        .layer(CatchPanicLayer::custom(internal))
        .layer(axum::middleware::from_fn(observe));
    Routes::from(methods)
}

/// The panic hook has logged it.
fn internal(_panic: Box<dyn Any + Send + 'static>) -> http::Response<Body> {
    Status::internal("Something went wrong on our side.").into_http()
}

async fn observe(request: Request, next: Next) -> Response {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let parent = TraceContext::parse(parent.unwrap_or_default());
    let span = tracing::info_span!(
        "grpc",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
        method,
        trace_id = tracing::field::Empty,
    );
    parent.set_parent(&span);
    let started = Instant::now();
    let response = next.run(request).instrument(span).await;
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    // A path that is no method of ours may be anything, and labels are kept for ever.
    let method = if code == Code::Unimplemented { "unknown".to_owned() } else { method };
    let labels = [("method", method), ("code", format!("{code:?}"))];
    metrics::histogram!("portolan_grpc_server_seconds", &labels).record(started.elapsed());
    response
}
