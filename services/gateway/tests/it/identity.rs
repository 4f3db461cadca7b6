use std::{path::Path, time::Duration};

use axum::body::Body;
use http::{Method, Request};
use portolan_auth::{Identity, Issuer, Role};
use portolan_kernel::{Clock as _, SystemClock};
use portolan_proto::order::v1::OrderStatus;
use secrecy::ExposeSecret as _;
use serde_json::json;
use uuid::Uuid;

use crate::{
    double::ORDER_ID,
    support::{AUDIENCE, GOOD_ORDER, Gateway, ISSUER, request},
};

const SECURED: [(Method, &str); 7] = [
    (Method::POST, "/v1/orders"),
    (Method::GET, "/v1/orders"),
    (Method::GET, "/v1/orders/0192f0c1-2c5e-7a3b-8f00-0123456789ab"),
    (Method::POST, "/v1/orders/0192f0c1-2c5e-7a3b-8f00-0123456789ab/cancel"),
    (Method::GET, "/v1/orders/0192f0c1-2c5e-7a3b-8f00-0123456789ab/timeline"),
    (Method::GET, "/v1/orders/0192f0c1-2c5e-7a3b-8f00-0123456789ab/events"),
    (Method::GET, "/v1/me/stats"),
];

#[tokio::test]
async fn without_a_token_nothing_of_a_customer_is_seen() {
    let gateway = Gateway::start().await;
    for (method, path) in SECURED {
        let bare = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = gateway.send(bare).await;
        answer.problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"portolan\"");
    }
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn too_many_log_ins_at_once_are_sent_away_with_a_problem() {
    let gateway = Gateway::start().await;
    let body = r#"{"username":"mallory","password":"guess"}"#;
    let log_in = || Box::pin(gateway.send(request(Method::POST, "/v1/tokens", "", body)));
    // The first answer is not that of a password check: those take their time.
    let (answer, ..) = futures::future::select_all((0..40).map(|_| log_in())).await;
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), "1");
    log_in().await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn expired_foreign_and_oversize_tokens_are_refused() {
    let gateway = Gateway::start().await;
    let issued = |issuer: &Issuer, at| {
        let token =
            issuer.issue("alice", &[Role::Customer], at, Duration::from_mins(1), Uuid::nil());
        token.unwrap().expose_secret().to_owned()
    };
    let now = SystemClock.now();
    let expired = issued(&gateway.issuer, now - Duration::from_mins(2));
    let directory = std::env::temp_dir().join(format!("portolan-foreign-{}", std::process::id()));
    let foreign = Issuer::open(&Path::new(&directory).join("k.pem"), ISSUER, AUDIENCE).unwrap();
    let foreign = issued(&foreign, now);
    std::fs::remove_dir_all(directory).unwrap();
    let oversize = "x".repeat(20_000);
    for token in [expired.as_str(), foreign.as_str(), oversize.as_str(), "a.b.c", "nonsense"] {
        for (method, path) in SECURED {
            let answer = gateway.send(request(method, path, token, GOOD_ORDER)).await;
            answer.problem(401, "invalid_token");
            assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
            assert!(!String::from_utf8_lossy(&answer.bytes).contains(token));
        }
    }
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn a_customer_reads_as_themselves_and_an_operator_as_nobody() {
    let gateway = Gateway::start().await;
    for rest in ["", "/timeline"] {
        let path = format!("/v1/orders/{ORDER_ID}{rest}");
        assert_eq!(gateway.get(&path).await.status, 200);
        assert_eq!(gateway.double.last_reader().as_deref(), Some("alice"));

        let bob = gateway.token("bob", &[Role::Customer]);
        let answer = gateway.send(request(Method::GET, &path, &bob, Body::empty())).await;
        answer.problem(404, "not_found");

        let ops = gateway.token("ops", &[Role::Operator]);
        let answer = gateway.send(request(Method::GET, &path, &ops, Body::empty())).await;
        assert_eq!(answer.status, 200);
        assert_eq!(gateway.double.last_reader().as_deref(), Some(""));
    }
}

#[tokio::test]
async fn the_services_are_told_who_the_token_names_whatever_the_request_says() {
    let gateway = Gateway::start().await;
    gateway.double.tell(&[OrderStatus::Pending]);
    for (method, path) in SECURED {
        for (user, role) in [("Zoë", Role::Customer), ("ops", Role::Operator)] {
            let token = gateway.token(user, &[role]);
            let mut request = request(method.clone(), path, &token, GOOD_ORDER);
            request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
            let forged = Identity::new("alice", &[Role::Customer, Role::Operator]);
            forged.write(request.headers_mut());
            let (before, status) = (gateway.double.calls(), gateway.send_head(request).await);
            let told = (gateway.double.calls() > before).then(|| gateway.double.asker()).flatten();
            let expected = (status != 403).then(|| Identity::new(user, &[role]));
            assert_eq!(told, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn only_customers_buy_and_a_token_without_a_role_is_worth_nothing() {
    let gateway = Gateway::start().await;
    let ops = gateway.token("ops", &[Role::Operator]);
    for (method, path) in [
        (Method::POST, "/v1/orders"),
        (Method::GET, "/v1/orders"),
        (Method::POST, "/v1/orders/0192f0c1-2c5e-7a3b-8f00-0123456789ab/cancel"),
        (Method::GET, "/v1/me/stats"),
    ] {
        gateway.send(request(method, path, &ops, GOOD_ORDER)).await.problem(403, "forbidden");
    }
    let nobody = gateway.token("eve", &[]);
    for (method, path) in SECURED {
        gateway.send(request(method, path, &nobody, GOOD_ORDER)).await.problem(403, "forbidden");
    }
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn logging_in_gives_a_token_that_is_accepted() {
    let gateway = Gateway::start().await;
    let credentials = json!({"username": "alice", "password": "wonderland"}).to_string();
    let answer = gateway.post("/v1/tokens", credentials).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let token = answer.json();
    assert_eq!((&token["token_type"], &token["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let token = token["access_token"].as_str().unwrap();
    let stats = gateway.send(request(Method::GET, "/v1/me/stats", token, Body::empty())).await;
    assert_eq!(stats.status, 200);
}

#[tokio::test]
async fn wrong_credentials_look_the_same_for_known_and_unknown_users() {
    let gateway = Gateway::start().await;
    let mut details = Vec::new();
    for name in ["alice", "mallory"] {
        let credentials = json!({"username": name, "password": "guess"}).to_string();
        let answer = gateway.post("/v1/tokens", credentials).await;
        let document = answer.problem(401, "invalid_credentials");
        assert!(!answer.header("www-authenticate").is_empty());
        details.push(document["detail"].clone());
    }
    assert_eq!(details[0], details[1]);
}

#[tokio::test]
async fn the_key_set_is_public_and_the_issuer_can_be_off() {
    let gateway = Gateway::start().await;
    let public = Request::builder().uri("/.well-known/jwks.json").body(Body::empty()).unwrap();
    let answer = gateway.send(public).await;
    assert_eq!(answer.json(), serde_json::to_value(gateway.issuer.jwks()).unwrap());

    let outside = Gateway::with(|config| {
        config.dev_issuer.enabled = false;
        config.auth.jwks_url = Some("http://127.0.0.1:1/keys".to_owned());
    })
    .await;
    outside.get("/.well-known/jwks.json").await.problem(404, "not_found");
    let credentials = json!({"username": "alice", "password": "wonderland"}).to_string();
    outside.post("/v1/tokens", credentials).await.problem(404, "not_found");
    // Its keys cannot be fetched, which says nothing about the token.
    outside.get("/v1/me/stats").await.problem(503, "keys_unavailable");
}
