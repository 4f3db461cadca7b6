use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use crate::{Readiness, Status, metrics};

/// What the admin port answers: `/livez`, `/startupz`, `/readyz` and `/metrics`.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startupz", get(startup))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(readiness)
}

/// The check that holds from the end of wiring to the beginning of the shutdown.
pub(crate) const PROCESS: &str = "process";

async fn startup(State(readiness): State<Readiness>) -> impl IntoResponse {
    let report = readiness.report();
    let starting = report.checks.get(PROCESS).is_some_and(|check| match check {
        crate::CheckReport::Ok => false,
        crate::CheckReport::Failed { reason } => reason == "starting",
    });
    if starting { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") } else { (StatusCode::OK, "ok\n") }
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let report = readiness.report();
    let status = match report.status {
        Status::Ready | Status::Degraded => StatusCode::OK,
        Status::Unready => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}

async fn text() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render())
}
