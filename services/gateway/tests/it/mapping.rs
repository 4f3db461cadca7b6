use axum::body::Body;
use http::Method;
use portolan_kernel::{ErrorCode, FieldViolation};

use crate::{
    double::{ORDER_ID, Refusal},
    support::{GOOD_ORDER, Gateway, request},
};

fn refusal(code: ErrorCode, reason: &'static str) -> Refusal {
    Refusal { code, reason, violations: Vec::new(), retry_after_secs: None }
}

#[tokio::test]
async fn refusals_of_the_order_service_have_their_published_status() {
    let gateway = Gateway::start().await;
    for (code, reason, status) in [
        (ErrorCode::AlreadyExists, "idempotency_key_reused", 422),
        (ErrorCode::InvalidArgument, "unknown_sku", 422),
        (ErrorCode::InvalidArgument, "no_total", 422),
        (ErrorCode::FailedPrecondition, "open_order_limit", 409),
        (ErrorCode::Unavailable, "events_delayed", 503),
        (ErrorCode::Unavailable, "inventory_unavailable", 503),
    ] {
        gateway.double.refuse(refusal(code, reason));
        let document = gateway.place("k", GOOD_ORDER).await.problem(status, reason);
        assert_eq!(document["detail"], "The double refuses.");
    }
}

#[tokio::test]
async fn a_busy_customer_is_told_when_to_come_back() {
    let gateway = Gateway::start().await;
    let busy = refusal(ErrorCode::Aborted, "user_busy");
    gateway.double.refuse(Refusal { retry_after_secs: Some(3), ..busy });
    let answer = gateway.place("k", GOOD_ORDER).await;
    answer.problem(409, "user_busy");
    assert_eq!(answer.header("retry-after"), "3");
}

#[tokio::test]
async fn an_unknown_product_is_named_with_its_line() {
    let gateway = Gateway::start().await;
    let unknown = refusal(ErrorCode::InvalidArgument, "unknown_sku");
    let violation = FieldViolation {
        field: "lines.sku".to_owned(),
        description: "NOPE is not in the catalogue".to_owned(),
    };
    gateway.double.refuse(Refusal { violations: vec![violation], ..unknown });
    let body = r#"{"lines":[{"sku":"85123A","quantity":2},{"sku":"NOPE","quantity":1}],
        "payment_token":"tok_ok"}"#;
    let answer = gateway.place("k", body).await;
    assert_eq!(answer.fields(422, "unknown_sku"), ["lines[1].sku"]);
    assert!(answer.json()["errors"][0]["message"].as_str().unwrap().contains("NOPE"));
}

#[tokio::test]
async fn a_confirmed_order_cannot_be_cancelled() {
    let gateway = Gateway::start().await;
    gateway.double.refuse(refusal(ErrorCode::FailedPrecondition, "order_not_cancellable"));
    let answer = gateway.post(&format!("/v1/orders/{ORDER_ID}/cancel"), "").await;
    answer.problem(409, "order_not_cancellable");
}

#[tokio::test]
async fn failures_of_a_service_are_ours_and_say_nothing() {
    let gateway = Gateway::start().await;
    for code in [ErrorCode::Internal, ErrorCode::PermissionDenied, ErrorCode::Unauthenticated] {
        gateway.double.refuse(refusal(code, "secret_detail"));
        let answer = gateway.get("/v1/me/stats").await;
        answer.problem(500, "internal");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("double"));
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let gateway = Gateway::with(|config| {
        config.order_url = "http://127.0.0.1:1".to_owned();
    })
    .await;
    let answer = gateway.place("k", GOOD_ORDER).await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(gateway.get("/v1/products").await.status, 200, "the other service is there");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_given_up_in_time() {
    let gateway = Gateway::with(|config| config.limits.request_timeout_ms = 200).await;
    gateway.double.fall_silent();
    gateway.place("k", GOOD_ORDER).await.problem(504, "deadline_exceeded");
}

#[tokio::test]
async fn the_callers_trace_goes_on_behind_the_gateway() {
    let gateway = Gateway::start().await;
    let id = "0af7651916cd43dd8448eb211c80319c";
    let mut traced = request(Method::GET, "/v1/me/stats", &gateway.alice(), Body::empty());
    let parent = format!("00-{id}-b7ad6b7169203331-01");
    traced.headers_mut().insert("traceparent", parent.parse().unwrap());
    let answer = gateway.send(traced).await;
    assert_eq!(answer.header("x-trace-id"), id);
    assert!(answer.header("traceparent").starts_with(&format!("00-{id}-")));
    let downstream = gateway.double.trace().unwrap();
    assert!(downstream.starts_with(&format!("00-{id}-")), "{downstream}");
    assert_ne!(downstream, parent, "the gateway's own span is in between");

    let answer = gateway.get("/v1/me/stats").await;
    let own = answer.header("x-trace-id");
    assert!(own.len() == 32 && own != id, "without a caller's trace there is a new one: {own}");
    assert!(gateway.double.trace().unwrap().contains(own));
}
