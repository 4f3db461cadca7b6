use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use http::HeaderMap;
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status, body::Body, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

use crate::{
    Callers, Context,
    callers::Guard,
    deadline,
    net::{self, Port, Protocols},
    telemetry::TraceContext,
};

/// Who is in the mesh may ask whether we are well.
const OPEN: &[&str] = &["grpc.health.v1.Health/"];

/// Serves `routes` on the context's port, together with the standard health service, whose answer
/// for the empty service name is our readiness. Each request runs in a span that continues the
/// caller's trace, within the caller's `grpc-timeout`; a panic is `INTERNAL` for its caller alone.
///
/// If the process has an identity, callers must have one as well (mutual TLS), and each may only
/// call what `callers` lists for it; the rest is `PERMISSION_DENIED`.
///
/// # Errors
/// The port is being served already.
pub async fn serve(ctx: &Context, routes: Routes, callers: &Callers) -> anyhow::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let guard = ctx.tls.as_ref().map(|tls| Guard::new(callers, tls.domain(), OPEN));
    net::serve(
        ctx,
        Port {
            name: "grpc",
            router: edge(routes.add_service(health), guard),
            protocols: Protocols::Http2,
            tls: ctx.tls.clone(),
            max_age: ctx.max_connection_age,
            public: false,
        },
    )?;
    let (soft, readiness) = (ctx.tasks.soft(), ctx.readiness.watch());
    ctx.tasks.spawn("grpc-health", async move {
        soft.run_until_cancelled(mirror(reporter, readiness)).await;
        Ok(())
    });
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

/// What every call passes, from the outside in: the span, the allow-list, the deadline, the net
/// for panics.
fn edge(routes: Routes, guard: Option<Guard>) -> Router {
    let methods = routes.prepare().into_axum_router();
    let methods = methods.layer(CatchPanicLayer::custom(internal)).layer(from_fn(in_time));
    let methods = match guard {
        Some(guard) => methods.layer(from_fn_with_state(guard, admit)),
        None => methods,
    };
    methods.layer(from_fn(observe))
}

/// The panic hook has logged it.
fn internal(_panic: Box<dyn Any + Send + 'static>) -> http::Response<Body> {
    Status::internal("Something went wrong on our side.").into_http()
}

async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if guard.admits(request.uri().path(), request.extensions()) {
        next.run(request).await
    } else {
        let mut denied =
            Status::permission_denied("This caller may not call this method.").into_http();
        denied.extensions_mut().insert(Denied);
        denied
    }
}

/// Marks the answer to a call that did not reach its method.
#[derive(Clone, Copy, Debug)]
struct Denied;

/// Gives up when the caller has.
async fn in_time(request: Request, next: Next) -> Response {
    let limit = grpc_timeout(request.headers());
    let answer = next.run(request);
    let Some(limit) = limit else { return answer.await };
    let late = |_| Status::deadline_exceeded("The answer took too long.").into_http();
    deadline::within(limit, answer).await.unwrap_or_else(late)
}

/// The header `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
/// Anything else is no deadline.
pub(super) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
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
    let denied = response.extensions().get::<Denied>().is_some();
    let unknown = denied || code == Code::Unimplemented;
    let method = if unknown { "unknown".to_owned() } else { method };
    let labels = [("method", method), ("code", format!("{code:?}"))];
    metrics::histogram!("portolan_grpc_server_seconds", &labels).record(started.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let read = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            grpc_timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), value)]))
        };
        assert_eq!(read("2H"), Some(Duration::from_hours(2)));
        assert_eq!(read("3M"), Some(Duration::from_mins(3)));
        assert_eq!(read("4S"), Some(Duration::from_secs(4)));
        assert_eq!(read("50m"), Some(Duration::from_millis(50)));
        assert_eq!(read("60u"), Some(Duration::from_micros(60)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "1", "123456789S", "-1S", "+1S", "1 S", "1s", "1é"] {
            let read = HeaderValue::from_bytes(bad.as_bytes()).ok().and_then(|value| {
                grpc_timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), value)]))
            });
            assert_eq!(read, None, "{bad}");
        }
    }
}
