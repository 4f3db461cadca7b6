use std::{path::PathBuf, time::Duration};

use axum::{Router, body::Body, middleware, routing::get};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use portolan_runtime::{
    Context, ServerConfig, TelemetryConfig,
    grpc::{BreakerConfig, RetryConfig},
};
use serde_json::Value;
use tower::ServiceExt as _;

use super::{edge, record};
use crate::{App, AuthConfig, BrowsersConfig, Config, DevIssuerConfig, LimitsConfig, RatesConfig};

async fn panics() -> StatusCode {
    panic!("a secret in a panic message");
}

async fn hangs() -> StatusCode {
    std::future::pending().await
}

/// What some layer of a library might answer.
async fn teapot() -> (StatusCode, &'static str) {
    (StatusCode::IM_A_TEAPOT, "plain text")
}

fn router(limits: LimitsConfig) -> Router {
    let nowhere = || "http://127.0.0.1:1".to_owned();
    let address = ([127, 0, 0, 1], 0).into();
    let config = Config {
        server: ServerConfig {
            listen: address,
            admin_listen: address,
            grace_secs: 1,
            drain_delay_ms: 0,
            max_connection_age_secs: 0,
            max_connections: 1_024,
        },
        telemetry: TelemetryConfig::default(),
        tls: None,
        order_url: nowhere(),
        inventory_url: nowhere(),
        payment_url: None,
        notification_url: None,
        auth: AuthConfig {
            issuer: nowhere(),
            audience: "portolan".to_owned(),
            jwks_url: Some(nowhere()),
        },
        dev_issuer: DevIssuerConfig { key_file: PathBuf::new(), ..DevIssuerConfig::default() },
        limits,
        rates: RatesConfig::default(),
        quota: None,
        browsers: BrowsersConfig::default(),
        breaker: BreakerConfig::default(),
        retry: RetryConfig::default(),
    };
    let app = App::new(&config, &Context::new("gateway", None)).unwrap();
    Router::new()
        .route("/panics", get(panics))
        .route("/hangs", get(hangs))
        .route("/teapot", get(teapot))
        .layer(middleware::from_fn_with_state(app.clone(), edge))
        .with_state(app)
}

async fn ask(router: &Router, path: &str) -> (u16, Value) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let trace_id = response.headers()["x-trace-id"].clone();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let document: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["trace_id"], trace_id.to_str().unwrap());
    assert_eq!(document["status"], status);
    (status, document)
}

#[tokio::test]
async fn a_panic_is_a_problem_that_says_nothing() {
    let (status, document) = ask(&router(LimitsConfig::default()), "/panics").await;
    assert_eq!((status, &document["code"]), (500, &"internal".into()));
    assert!(!document.to_string().contains("secret"));
}

#[tokio::test]
async fn a_plain_error_of_a_library_becomes_a_problem() {
    let (status, document) = ask(&router(LimitsConfig::default()), "/teapot").await;
    assert_eq!((status, &document["code"]), (418, &"bad_request".into()));
}

#[tokio::test]
async fn time_and_number_are_limited() {
    let limits =
        LimitsConfig { request_timeout_ms: 200, concurrent_requests: 1, ..LimitsConfig::default() };
    let router = router(limits);
    let second = async {
        // The first one is polled first, so it has the only place by now.
        tokio::time::timeout(Duration::from_millis(100), ask(&router, "/teapot")).await.unwrap()
    };
    let (first, second) = tokio::join!(ask(&router, "/hangs"), second);
    assert_eq!((first.0, &first.1["code"]), (504, &"deadline_exceeded".into()));
    assert_eq!((second.0, &second.1["code"]), (503, &"overloaded".into()));
    assert_eq!(ask(&router, "/teapot").await.0, 418, "there is room again");
}

#[test]
fn clients_cannot_invent_label_values() {
    let method = http::Method::from_bytes(b"BREW").unwrap();
    assert_eq!(record::known_method(&method), "OTHER");
}
