//! What every request passes: its span and trace id, the limits on time and number, panics, and the
//! writing of problem documents; then one line in the access log and the metrics.

mod record;
#[cfg(test)]
mod tests;

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use portolan_runtime::{deadline::within, telemetry::TraceContext};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::{
    app::App,
    problem::{Problem, kind, of_status, render},
};

pub(crate) use record::describe_metrics;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// What no address has as its template.
const NO_ROUTE: &str = "none";

/// One request while it is being answered. Problems and streams read the trace id from the
/// request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct TraceId(pub(crate) String);

/// The outermost layer.
pub(crate) async fn edge(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = record::known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| NO_ROUTE.to_owned());
    let instance = request.uri().path().to_owned();
    let span = span(request.headers(), method, &route);
    let trace = TraceContext::of(&span);
    let trace_id = trace.trace_id().unwrap_or_else(|| app.ids.next().simple().to_string());
    request.extensions_mut().insert(TraceId(trace_id.clone()));

    let origin = app.browsers.allowed(request.headers()).cloned();
    let response = match app.browsers.preflight(&request) {
        Some(response) => response,
        None => answer(&app, request, next).instrument(span.clone()).await,
    };
    let mut response = documented(response, &instance, &trace_id);
    add_headers(response.headers_mut(), &trace, &trace_id);
    app.browsers.tell(response.headers_mut(), origin);
    span.record("http.response.status_code", response.status().as_u16());
    record::request(method, &route, &response, started.elapsed(), &trace_id);
    response
}

fn span(headers: &HeaderMap, method: &'static str, route: &str) -> Span {
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        trace_id = tracing::field::Empty,
    );
    let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    TraceContext::parse(parent.unwrap_or_default()).set_parent(&span);
    span
}

/// The handler's answer, or the problem of not getting one.
async fn answer(app: &App, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.requests.try_acquire() else {
        return Problem::new(kind::OVERLOADED, "Too many requests at once: come back in a moment.")
            .into_response();
    };
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match within(app.limits.request_timeout(), handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => {
            tracing::error!("a handler panicked");
            Problem::internal().into_response()
        }
        Err(_elapsed) => timed_out(app.limits.request_timeout()).into_response(),
    }
}

fn timed_out(limit: Duration) -> Problem {
    let detail =
        format!("No answer within {} ms; whether it happened is unknown.", limit.as_millis());
    Problem::new(kind::DEADLINE_EXCEEDED, detail)
}

/// Errors get their document here, also those that the router or a library made.
fn documented(mut response: Response, instance: &str, trace_id: &str) -> Response {
    let status = response.status();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        render(response, &problem, instance, trace_id)
    } else if status.is_client_error() || status.is_server_error() {
        let kind = of_status(status);
        let mut problem = Problem::new(kind, format!("{}.", kind.title));
        problem.status = status;
        render(response, &problem, instance, trace_id)
    } else {
        response
    }
}

fn add_headers(headers: &mut HeaderMap, trace: &TraceContext, trace_id: &str) {
    if let Ok(value) = HeaderValue::from_str(trace_id) {
        headers.insert(X_TRACE_ID, value);
    }
    if let (false, Ok(value)) = (trace.is_none(), HeaderValue::from_str(trace.as_str())) {
        headers.insert(TRACEPARENT, value);
    }
}
