//! What browsers are told.

use axum::body::Body;
use http::{Method, Request};

use crate::support::{Answer, GOOD_ORDER, Gateway, request};

const SHOP: &str = "https://shop.example";

async fn ask(gateway: &Gateway, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gateway.send(request.body(Body::empty()).unwrap()).await
}

async fn preflight(gateway: &Gateway, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,idempotency-key"),
    ];
    ask(gateway, Method::OPTIONS, "/v1/orders", &headers).await
}

#[tokio::test]
async fn no_answer_whatever_may_be_embedded_run_or_guessed_at() {
    let gateway = Gateway::start().await;
    let answers = [
        gateway.get("/v1/products").await,
        gateway.get("/openapi.json").await,
        gateway.get("/v1/me/stats").await,
        gateway.get("/nothing").await,
        gateway.place("k", GOOD_ORDER).await,
        gateway.place("k", "{").await,
        gateway.send(request(Method::DELETE, "/v1/orders", "", Body::empty())).await,
        gateway.send(request(Method::GET, "/v1/orders", "no token", Body::empty())).await,
    ];
    let statuses = answers.each_ref().map(|answer| answer.status.as_u16());
    assert_eq!(statuses, [200, 200, 200, 404, 202, 400, 405, 401]);
    for answer in answers {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let policy = "default-src 'none'; frame-ancestors 'none'";
        assert_eq!(answer.header("content-security-policy"), policy);
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert!(!answer.headers.contains_key("strict-transport-security"), "{answer:?}");
    }
}

#[tokio::test]
async fn only_what_is_the_same_for_everybody_and_seldom_changes_may_be_kept() {
    let gateway = Gateway::start().await;
    for public in ["/openapi.json", "/.well-known/jwks.json"] {
        assert_eq!(gateway.get(public).await.header("cache-control"), "public, max-age=300");
    }
    for other in ["/v1/products", "/v1/orders", "/v1/me/stats", "/nothing"] {
        assert_eq!(gateway.get(other).await.header("cache-control"), "no-store", "{other}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_do_nothing_unless_they_are_listed() {
    let gateway = Gateway::start().await;
    let refused = preflight(&gateway, SHOP).await;
    refused.problem(405, "method_not_allowed");
    let read = ask(&gateway, Method::GET, "/v1/products", &[("origin", SHOP)]).await;
    assert_eq!(read.status, 200);
    for answer in [refused, read] {
        let told = answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
        assert!(!told && !answer.headers.contains_key("vary"), "{answer:?}");
    }
}

#[tokio::test]
async fn pages_of_a_listed_origin_may_send_orders_and_read_every_answer() {
    let gateway =
        Gateway::with(|config| config.browsers.allowed_origins = vec![SHOP.to_owned()]).await;
    let allowed = preflight(&gateway, SHOP).await;
    assert_eq!((allowed.status.as_u16(), allowed.bytes.len()), (204, 0));
    assert_eq!(allowed.header("access-control-allow-origin"), SHOP);
    assert_eq!(allowed.header("access-control-allow-methods"), "GET, POST");
    let headers = allowed.header("access-control-allow-headers");
    for name in ["authorization", "content-type", "idempotency-key"] {
        assert!(headers.contains(name), "{headers}");
    }
    assert_eq!(gateway.double.calls(), 0);
    for (path, status) in [("/v1/products", 200), ("/v1/orders", 401), ("/nothing", 404)] {
        let answer = ask(&gateway, Method::GET, path, &[("origin", SHOP)]).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), SHOP);
        assert!(answer.header("access-control-expose-headers").contains("x-trace-id"));
        assert_eq!(answer.header("vary"), "origin");
        // Tokens are sent by the page, never by the browser on its own.
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn another_origin_than_the_listed_is_told_nothing() {
    let gateway =
        Gateway::with(|config| config.browsers.allowed_origins = vec![SHOP.to_owned()]).await;
    for origin in ["https://evil.example", "https://shop.example.evil.example", "null", ""] {
        preflight(&gateway, origin).await.problem(405, "method_not_allowed");
        let answer = ask(&gateway, Method::GET, "/v1/products", &[("origin", origin)]).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
        assert_eq!(answer.header("vary"), "origin", "{origin}");
    }
}

#[tokio::test]
async fn browsers_are_kept_to_https_only_where_that_is_configured() {
    let gateway = Gateway::with(|config| config.browsers.hsts_secs = 31_536_000).await;
    for path in ["/v1/products", "/nothing"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    }
}
