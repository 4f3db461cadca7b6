//! What clients may rely on: idempotency keys, refusals, privacy, streams and statistics.

use std::collections::BTreeSet;

use futures::future::join_all;
use portolan_e2e::{Answer, Customer, Service, Shop, new_key};
use portolan_testkit::{PATIENCE, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// Everything in the databases that a refused request must leave alone.
async fn contents(shop: &Shop) -> Vec<i64> {
    let counts = [
        (Service::Order, "SELECT count(*) FROM orders"),
        (Service::Order, "SELECT count(*) FROM idempotency"),
        (Service::Order, "SELECT count(*) FROM user_guard"),
        (Service::Order, "SELECT count(*) FROM order_event"),
        (Service::Order, "SELECT count(*) FROM event_log"),
        (Service::Order, "SELECT count(*) FROM order_timeline"),
        (Service::Inventory, "SELECT count(*) FROM stock_ledger"),
        (Service::Inventory, "SELECT sum(available)::bigint FROM stock"),
        (Service::Payment, "SELECT count(*) FROM payment"),
        (Service::Psp, "SELECT count(*) FROM operation"),
    ];
    let mut found = Vec::new();
    for (service, sql) in counts {
        found.push(shop.count(service, sql).await);
    }
    found
}

#[tokio::test]
async fn twenty_requests_with_one_key_at_once_make_one_order_and_get_one_answer() {
    let shop = Shop::open().await;
    let (alice, key) = (shop.customer("alice"), new_key());
    let all = join_all((0..20).map(|_| alice.try_place(&key, &[("CUP", 1)], "tok_ok_1"))).await;
    let all: Vec<Answer> = all.into_iter().map(|answer| answer.unwrap().expect(202)).collect();
    let ids: BTreeSet<Uuid> = all.iter().map(Answer::id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let bodies: BTreeSet<String> = all.iter().map(|answer| answer.body.to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let first: Vec<_> =
        all.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).collect();
    assert_eq!(first.len(), 1, "one placed it, the others were told");
    alice.becomes(all[0].id(), "COMPLETED").await;
    shop.assert_sound().await;
    assert_eq!(shop.count(Service::Order, "SELECT count(*) FROM orders").await, 1);
}

#[tokio::test]
async fn a_key_is_answered_again_even_when_the_order_is_over_and_only_for_the_same_request() {
    let shop = Shop::open().await;
    let (alice, key) = (shop.customer("alice"), new_key());
    let lines = [("CUP", 1), ("TEAPOT", 2)];
    let first = alice.try_place(&key, &lines, "tok_ok_1").await.unwrap().expect(202);
    assert_eq!(first.header("location"), format!("/v1/orders/{}", first.id()));
    alice.becomes(first.id(), "COMPLETED").await;

    let again = alice.try_place(&key, &lines, "tok_ok_1").await.unwrap().expect(202);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    // The same basket in other words is the same request.
    let words = [("TEAPOT", 1), ("CUP", 1), ("TEAPOT", 1)];
    let merged = alice.try_place(&key, &words, "tok_ok_1").await.unwrap().expect(202);
    assert_eq!(merged.id(), first.id());

    // The last notice of the first order must be in, or it would look like a change.
    shop.assert_sound().await;
    let before = contents(&shop).await;
    for (lines, card) in [(&[("CUP", 2), ("TEAPOT", 2)], "tok_ok_1"), (&lines, "tok_ok_2")] {
        let other = alice.try_place(&key, lines, card).await.unwrap();
        let _ = other.expect_problem(422, "idempotency_key_reused");
    }
    assert_eq!(contents(&shop).await, before);

    // Keys are each customer's own.
    let bob = shop.customer("bob").try_place(&key, &lines, "tok_ok_3").await.unwrap().expect(202);
    assert_ne!(bob.id(), first.id());
    shop.assert_sound().await;
}

#[tokio::test]
async fn another_customers_order_does_not_exist() {
    let shop = Shop::open().await;
    let (alice, bob) = (shop.log_in("alice").await, shop.log_in("bob").await);
    let order = alice.place(&[("CUP", 1)], "tok_hang_1").await;
    for path in ["", "/timeline", "/events"] {
        let answer = bob.get(&format!("/v1/orders/{order}{path}")).await;
        let _ = answer.expect_problem(404, "not_found");
    }
    let _ = bob.cancel(order).await.unwrap().expect_problem(404, "not_found");
    assert_eq!(bob.get("/v1/orders").await.expect(200).body["orders"], json!([]));
    let seen = shop.log_in("olga").await.get(&format!("/v1/orders/{order}")).await.expect(200);
    assert_eq!(seen.body["user_id"], "alice", "an operator sees it");
    assert_ne!(alice.order(order).await["status"], "CANCELLED");
    let _ = alice.cancel(order).await.unwrap().expect(200);
    shop.assert_sound().await;
}

#[tokio::test]
async fn the_stream_of_an_order_tells_every_change_and_ends_with_the_last() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_late_1").await;
    let stream = alice.request(Method::GET, &format!("/v1/orders/{order}/events"));
    let stream = stream.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    // Ends by itself, or the client's timeout fails the test.
    let text = stream.text().await.unwrap();
    let data = |line: &str| serde_json::from_str::<Value>(line.strip_prefix("data:")?.trim()).ok();
    let orders: Vec<Value> = text.lines().filter_map(data).collect();
    let versions: Vec<i64> = orders.iter().filter_map(|order| order["version"].as_i64()).collect();
    assert!(versions.len() >= 2 && versions.is_sorted_by(|a, b| a < b), "{text}");
    assert_eq!(orders.last().unwrap()["status"], "COMPLETED", "{text}");
    // A stream of a final order tells that and ends.
    let late = alice.request(Method::GET, &format!("/v1/orders/{order}/events")).send().await;
    let late = late.unwrap().text().await.unwrap();
    assert_eq!(late.lines().filter_map(data).count(), 1, "{late}");
    shop.assert_sound().await;
}

#[tokio::test]
async fn statistics_and_lists_agree_with_what_happened() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let mut newest_first = Vec::new();
    for card in ["tok_ok_1", "tok_declined_1", "tok_ok_2", "tok_hang_1"] {
        newest_first.insert(0, alice.place(&[("TEAPOT", 2)], card).await);
    }
    for order in &newest_first[1..] {
        alice.final_order(*order).await;
    }
    let stats = alice.get("/v1/me/stats").await.expect(200).body;
    let mut expected = json!({
        "orders": 4, "completed": 2, "cancelled": 1, "open": 1,
        "spent": [{"minor_units": 5_000, "currency": "GBP"}],
    });
    expected["last_order"] = stats["last_order"].clone();
    assert_eq!(stats, expected);
    assert_eq!(stats["last_order"]["id"], newest_first[0].to_string());
    let nobody = shop.customer("nobody").get("/v1/me/stats").await.expect(200).body;
    assert_eq!((&nobody["orders"], &nobody["last_order"]), (&json!(0), &Value::Null));

    let mut listed = Vec::new();
    let mut path = "/v1/orders?limit=3".to_owned();
    loop {
        let page = alice.get(&path).await.expect(200).body;
        let ids = page["orders"].as_array().unwrap().iter();
        listed.extend(ids.map(|order| order["id"].as_str().unwrap().parse::<Uuid>().unwrap()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/orders?limit=3&cursor={cursor}");
    }
    assert_eq!(listed, newest_first);
    let done = alice.get("/v1/orders?status=COMPLETED").await.expect(200).body;
    assert_eq!(done["orders"].as_array().unwrap().len(), 2);

    let _ = alice.cancel(newest_first[0]).await.unwrap().expect(200);
    let stats = alice.get("/v1/me/stats").await.expect(200).body;
    assert_eq!((&stats["cancelled"], &stats["open"]), (&json!(2), &json!(0)));
    shop.assert_sound().await;
}

#[tokio::test]
async fn a_token_comes_for_the_right_password_only() {
    let shop = Shop::open().await;
    let anyone = shop.customer("anyone");
    let log_in = async |name: &str, password: &str| {
        let body = json!({"username": name, "password": password});
        anyone.send(anyone.request(Method::POST, "/v1/tokens").json(&body)).await.unwrap()
    };
    for (name, password) in [("alice", "wrong"), ("nobody", "correct horse battery staple")] {
        let _ = log_in(name, password).await.expect_problem(401, "invalid_credentials");
    }
    let keys = anyone.get("/.well-known/jwks.json").await.expect(200).body;
    assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    assert_eq!(keys["keys"][0]["d"], Value::Null, "the private half stays at home");
    let description = anyone.get("/openapi.json").await.expect(200).body;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
}

/// A body for `POST /v1/orders`, and how it is refused: status, code and field.
type Refusal = (&'static str, u16, &'static str, &'static str);

const REFUSALS: &[Refusal] = &[
    (r#"{"lines":"#, 400, "malformed_json", ""),
    (
        r#"{"lines":[{"sku":"CUP","quantity":1}],"payment_token":"tok_ok_1"} x"#,
        400,
        "malformed_json",
        "",
    ),
    ("", 400, "malformed_json", ""),
    ("[]", 422, "validation_failed", "body"),
    ("null", 422, "validation_failed", "body"),
    ("{}", 422, "validation_failed", "lines"),
    (r#"{"lines":"CUP","payment_token":"tok_ok_1"}"#, 422, "validation_failed", "lines"),
    (r#"{"lines":[],"payment_token":"tok_ok_1"}"#, 422, "validation_failed", "lines"),
    (r#"{"lines":[1],"payment_token":"tok_ok_1"}"#, 422, "validation_failed", "lines[0]"),
    (
        r#"{"lines":[{"quantity":1}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].sku",
    ),
    (
        r#"{"lines":[{"sku":7,"quantity":1}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].sku",
    ),
    (
        r#"{"lines":[{"sku":"","quantity":1}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].sku",
    ),
    (
        r#"{"lines":[{"sku":"C\u0000P","quantity":1}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].sku",
    ),
    (
        r#"{"lines":[{"sku":"CUP"}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].quantity",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":-1}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].quantity",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":0}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].quantity",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":1.5}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].quantity",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":"1"}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].quantity",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":100001}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].quantity",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":18446744073709551616}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].quantity",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":1,"price":1}],"payment_token":"tok_ok_1"}"#,
        422,
        "validation_failed",
        "lines[0].price",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":1}],"payment_token":"tok_ok_1","amount":1}"#,
        422,
        "validation_failed",
        "amount",
    ),
    (r#"{"lines":[{"sku":"CUP","quantity":1}]}"#, 422, "validation_failed", "payment_token"),
    (
        r#"{"lines":[{"sku":"CUP","quantity":1}],"payment_token":null}"#,
        422,
        "validation_failed",
        "payment_token",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":1}],"payment_token":"4111 1111 1111 1111"}"#,
        422,
        "validation_failed",
        "payment_token",
    ),
    (
        r#"{"lines":[{"sku":"CUP","quantity":1},{"sku":"SAUCER","quantity":1}],"payment_token":"tok_ok_1"}"#,
        422,
        "unknown_sku",
        "lines[1].sku",
    ),
];

/// Whether a problem document names the field; an empty field asks for nothing.
fn names(problem: &Answer, field: &str) -> bool {
    let errors = problem.body["errors"].as_array();
    field.is_empty() || errors.is_some_and(|all| all.iter().any(|error| error["field"] == field))
}

fn post(customer: &Customer<'_>, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    customer
        .request(Method::POST, "/v1/orders")
        .header("Idempotency-Key", new_key())
        .header("Content-Type", "application/json")
        .body(body)
}

#[tokio::test]
async fn bad_bodies_are_refused_by_naming_the_field_and_change_nothing() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let before = contents(&shop).await;
    for (body, status, code, field) in REFUSALS {
        let answer = alice.send(post(&alice, *body)).await.unwrap();
        let answer = answer.expect_problem(*status, code);
        assert!(names(&answer, field), "{field} for {body} in {}", answer.body);
        assert_eq!(answer.body["trace_id"].as_str().unwrap().len(), 32, "{}", answer.body);
        assert!(
            !answer.body.to_string().contains("4111 1111"),
            "what may be a card is not repeated"
        );
    }
    let text = b"{\"lines\":[{\"sku\":\"C\xffP\",\"quantity\":1}],\"payment_token\":\"tok_ok_1\"}";
    let answer = alice.send(post(&alice, text.to_vec())).await.unwrap();
    let _ = answer.expect_problem(400, "malformed_json");
    let lines: Vec<Value> =
        (0..1_001).map(|n| json!({"sku": format!("S{n}"), "quantity": 1})).collect();
    let many = json!({"lines": lines, "payment_token": "tok_ok_1"}).to_string();
    let answer = alice.send(post(&alice, many)).await.unwrap();
    assert!(names(&answer.expect_problem(422, "validation_failed"), "lines"));
    let huge = format!(r#"{{"lines":[],"payment_token":"tok_{}"}}"#, "x".repeat(300_000));
    // Last, and with patience: the gateway answers without reading to the end, so a client that goes
    // on sending may find the connection closed before it has read the answer.
    let answer =
        eventually(PATIENCE, "an answer", async || alice.send(post(&alice, huge.clone())).await);
    let _ = answer.await.expect_problem(413, "payload_too_large");
    assert_eq!(contents(&shop).await, before);
    shop.assert_sound().await;
}

#[tokio::test]
async fn bad_requests_of_every_other_kind_are_refused_and_change_nothing() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let before = contents(&shop).await;
    let good = r#"{"lines":[{"sku":"CUP","quantity":1}],"payment_token":"tok_ok_1"}"#;

    let tokens = [
        ("", "invalid_token"),
        ("not.a.token", "invalid_token"),
        (&*shop.expired_token("alice"), "invalid_token"),
        (&*shop.foreign_token("alice"), "invalid_token"),
        (&*shop.token_for_others("alice"), "invalid_token"),
    ];
    for (token, code) in tokens {
        let caller = alice.with_token(token);
        for request in [post(&caller, good), caller.request(Method::GET, "/v1/me/stats")] {
            let answer = caller.send(request).await.unwrap();
            assert_eq!(answer.status, 401, "{token:?}: {}", answer.body);
            assert!(token.is_empty() || answer.body["code"] == code, "{}", answer.body);
            assert!(!answer.header("www-authenticate").is_empty());
        }
    }
    let plain = alice.request(Method::POST, "/v1/orders").header("Idempotency-Key", "k").body(good);
    let _ = alice.send(plain).await.unwrap().expect_problem(415, "unsupported_media_type");
    let keyless =
        alice.request(Method::POST, "/v1/orders").header("Content-Type", "application/json");
    let answer = alice.send(keyless.body(good)).await.unwrap();
    assert!(names(&answer.expect_problem(400, "idempotency_key_required"), "Idempotency-Key"));
    for key in [String::new(), "k".repeat(256), "two words".to_owned()] {
        let request = alice.request(Method::POST, "/v1/orders").header("Idempotency-Key", &key);
        let request = request.header("Content-Type", "application/json").body(good);
        let answer = alice.send(request).await.unwrap();
        assert_eq!(answer.status, 400, "{key:?}: {}", answer.body);
        assert!(names(&answer, "Idempotency-Key"), "{key:?}: {}", answer.body);
    }
    for (path, status, field) in [
        ("/v1/orders?limit=0", 422, "limit"),
        ("/v1/orders?limit=many", 422, "limit"),
        ("/v1/orders?cursor=%00", 422, "cursor"),
        ("/v1/orders?status=LOST", 422, "status"),
        ("/v1/products?limit=101", 422, "limit"),
        ("/v1/products/NOTHING", 404, ""),
        ("/v1/orders/not-an-id", 404, ""),
        ("/v1/orders/00000000-0000-7000-8000-000000000000", 404, ""),
        ("/v1/nothing", 404, ""),
    ] {
        let answer = alice.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert!(names(&answer, field), "{path}: {}", answer.body);
    }
    let answer = alice.send(alice.request(Method::PUT, "/v1/orders")).await.unwrap();
    let _ = answer.expect_problem(405, "method_not_allowed");
    let olga = shop.log_in("olga").await;
    let _ = olga.send(post(&olga, good)).await.unwrap().expect_problem(403, "forbidden");
    assert_eq!(contents(&shop).await, before);
    shop.assert_sound().await;
}
