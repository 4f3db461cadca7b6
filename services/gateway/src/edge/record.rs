use std::time::Duration;

use axum::response::Response;
use http::Method;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

const REQUESTS: &str = "portolan_http_requests_total";
const SECONDS: &str = "portolan_http_request_duration_seconds";

/// Explains the metrics to those who read them.
pub(crate) fn describe_metrics() {
    describe_counter!(REQUESTS, "HTTP requests by method, route template and status.");
    describe_histogram!(SECONDS, Unit::Seconds, "Time until the head of the answer was ready.");
}

/// The method's name, from a closed list: the client must not be able to invent label values.
pub(super) fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// One line in the access log and one sample in each metric. Never anything from a header or a
/// body, and no path: it may hold what the route template does not.
pub(super) fn request(
    method: &'static str,
    route: &str,
    response: &Response,
    elapsed: Duration,
    trace_id: &str,
) {
    let status = response.status().as_u16();
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(method, route, status, ms, trace_id, "answered");
    let route = route.to_owned();
    counter!(REQUESTS, "method" => method, "route" => route.clone(), "status" => status.to_string())
        .increment(1);
    histogram!(SECONDS, "method" => method, "route" => route).record(elapsed.as_secs_f64());
}
