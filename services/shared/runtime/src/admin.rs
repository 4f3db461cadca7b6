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
    if starting {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
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

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    async fn get(readiness: &Readiness, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(readiness.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn readyz(readiness: &Readiness) -> (u16, Value) {
        let (status, body) = get(readiness, "/readyz").await;
        (status, serde_json::from_str(&body).unwrap())
    }

    #[tokio::test]
    async fn readyz_tells_ready_degraded_and_unready_apart_with_reasons() {
        let readiness = Readiness::new();
        let (database, kafka) =
            (readiness.register("database", true), readiness.register("kafka", false));
        database.ok();
        kafka.ok();
        let all = json!({"database": {"status": "ok"}, "kafka": {"status": "ok"}});
        assert_eq!(readyz(&readiness).await, (200, json!({"status": "ready", "checks": all})));

        kafka.fail("no broker");
        let (status, body) = readyz(&readiness).await;
        assert_eq!((status, &body["status"]), (200, &json!("degraded")));
        assert_eq!(body["checks"]["kafka"], json!({"status": "failed", "reason": "no broker"}));

        database.fail("gone");
        let (status, body) = readyz(&readiness).await;
        assert_eq!((status, &body["status"]), (503, &json!("unready")));
        assert_eq!(body["checks"]["database"]["reason"], "gone");
    }

    #[tokio::test]
    async fn startupz_waits_for_the_wiring_and_livez_for_nothing() {
        let readiness = Readiness::new();
        let process = readiness.register(PROCESS, true);
        assert_eq!(get(&readiness, "/startupz").await.0, 503);
        assert_eq!(get(&readiness, "/livez").await.0, 200);
        process.ok();
        assert_eq!(get(&readiness, "/startupz").await.0, 200);
        process.fail("stopping");
        assert_eq!(get(&readiness, "/startupz").await.0, 200);
        assert_eq!(readyz(&readiness).await.0, 503);
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text_with_the_checks_and_the_process() {
        metrics::install("sample").unwrap();
        let readiness = Readiness::new();
        // The registry is the process's: a name that no other test uses.
        readiness.register("shelf", true).ok();
        let (status, body) = get(&readiness, "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("portolan_check_up{check=\"shelf\"} 1"), "{body}");
        assert!(body.contains("portolan_build_info{service=\"sample\""), "{body}");
        assert!(body.contains("\nprocess_start_time_seconds "), "{body}");
        assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
    }
}
