use axum::body::Body;
use http::{Method, Request};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::support::{GOOD_ORDER, Gateway, request};

#[tokio::test]
async fn an_address_that_does_not_exist_is_a_problem() {
    let gateway = Gateway::start().await;
    let document = gateway.get("/v2/nothing?x=1").await.problem(404, "not_found");
    assert_eq!(document["instance"], "/v2/nothing");
    gateway.get("/v1/orders/").await.problem(404, "not_found");
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_a_problem_that_names_the_others() {
    let gateway = Gateway::start().await;
    let answer = gateway.send(request(Method::DELETE, "/v1/orders", "", Body::empty())).await;
    answer.problem(405, "method_not_allowed");
    let allow = answer.header("allow");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whether_or_not_it_says_so() {
    let gateway = Gateway::start().await;
    let large = format!("{{\"lines\":[],\"payment_token\":\"{}\"}}", "x".repeat(262_144));
    gateway.place("k", large.clone()).await.problem(413, "payload_too_large");
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(large.clone())]);
    gateway.place("k", Body::from_stream(chunks)).await.problem(413, "payload_too_large");

    let mut announced = request(Method::POST, "/v1/tokens", "", Body::empty());
    announced.headers_mut().insert("content-length", "262145".parse().unwrap());
    gateway.send(announced).await.problem(413, "payload_too_large");
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_in_time() {
    let gateway = Gateway::with(|config| config.limits.request_timeout_ms = 200).await;
    let body = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    gateway.place("k", body).await.problem(504, "deadline_exceeded");
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    let gateway = Gateway::start().await;
    for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let mut form = request(Method::POST, "/v1/tokens", "", GOOD_ORDER);
        form.headers_mut().insert("content-type", media_type.parse().unwrap());
        gateway.send(form).await.problem(415, "unsupported_media_type");
    }
    let mut none = request(Method::POST, "/v1/tokens", "", GOOD_ORDER);
    none.headers_mut().remove("content-type");
    gateway.send(none).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn what_is_no_json_is_refused_with_the_place() {
    let gateway = Gateway::start().await;
    for (body, place) in [
        (&b"{\"lines\": [}"[..], "line 1 column 12"),
        (b"{\"lines\":[],\n\"payment_token\": nope}", "line 2"),
        (b"", "line 1 column 0"),
        (b"{\"payment_token\":\"tok_\xff\xfe\"}", "byte 23"),
    ] {
        let document = gateway.place("k", body).await.problem(400, "malformed_json");
        assert!(document["detail"].as_str().unwrap().contains(place), "{document}");
    }
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn what_has_the_wrong_form_is_refused_with_the_field() {
    let gateway = Gateway::start().await;
    let line = |line: &str| format!(r#"{{"lines":[{line}],"payment_token":"tok_ok"}}"#);
    let good = r#"{"sku":"A","quantity":1}"#;
    for (body, field) in [
        (line(&format!(r#"{good},{{"sku":"B","quantity":-1}}"#)), "lines[1].quantity"),
        (line(r#"{"sku":"A","quantity":1.5}"#), "lines[0].quantity"),
        (line(r#"{"sku":"A","quantity":1e2}"#), "lines[0].quantity"),
        (line(r#"{"sku":"A","quantity":"1"}"#), "lines[0].quantity"),
        (line(r#"{"sku":"A","quantity":0}"#), "lines[0].quantity"),
        (line(r#"{"sku":"A","quantity":100001}"#), "lines[0].quantity"),
        (line(r#"{"sku":"A","quantity":99999999999999999999}"#), "lines[0].quantity"),
        (line(r#"{"sku":"A"}"#), "lines[0].quantity"),
        (line(r#"{"sku":7,"quantity":1}"#), "lines[0].sku"),
        (line(r#"{"sku":"A\u0000","quantity":1}"#), "lines[0].sku"),
        (line(r#"{"sku":"A","quantity":1,"price":1}"#), "lines[0].price"),
        (line("null"), "lines[0]"),
        (line(""), "lines"),
        (r#"{"lines":{},"payment_token":"tok_ok"}"#.to_owned(), "lines"),
        (format!(r#"{{"lines":[{good}]}}"#), "payment_token"),
        (format!(r#"{{"lines":[{good}],"payment_token":null}}"#), "payment_token"),
        (format!(r#"{{"lines":[{good}],"payment_token":"4111111111111111"}}"#), "payment_token"),
        (format!(r#"{{"lines":[{good}],"payment_token":"tok_ok","user_id":"bob"}}"#), "user_id"),
        ("[]".to_owned(), "body"),
        ("null".to_owned(), "body"),
    ] {
        let answer = gateway.place("k", body.clone()).await;
        assert_eq!(answer.fields(422, "validation_failed"), [field], "{body}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("4111"), "{body}");
    }
    assert_eq!(gateway.double.calls(), 0, "nothing reached a service");
}

#[tokio::test]
async fn an_order_needs_an_idempotency_key() {
    let gateway = Gateway::start().await;
    let answer = gateway.post("/v1/orders", GOOD_ORDER).await;
    assert_eq!(answer.fields(400, "idempotency_key_required"), ["Idempotency-Key"]);
    let answer = gateway.place(&"k".repeat(256), GOOD_ORDER).await;
    assert_eq!(answer.fields(400, "idempotency_key_invalid"), ["Idempotency-Key"]);
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn ids_that_can_be_nothing_are_not_found() {
    let gateway = Gateway::start().await;
    for id in [
        "1",
        "%00",
        "%ff",
        "0192f0c12c5e7a3b8f000123456789ab",
        "not-a-uuid-but-36-characters-long--",
    ] {
        for rest in ["", "/timeline", "/events"] {
            let answer = gateway.get(&format!("/v1/orders/{id}{rest}")).await;
            answer.problem(404, "not_found");
        }
        gateway.post(&format!("/v1/orders/{id}/cancel"), "").await.problem(404, "not_found");
    }
    gateway.get("/v1/products/%00").await.problem(404, "not_found");
    gateway.get(&format!("/v1/products/{}", "x".repeat(65))).await.problem(404, "not_found");
    assert_eq!(gateway.double.calls(), 0);
}

#[tokio::test]
async fn query_parameters_are_checked_by_name() {
    let gateway = Gateway::start().await;
    for (path, field) in [
        ("/v1/orders?limit=0", "limit"),
        ("/v1/orders?limit=ten", "limit"),
        ("/v1/orders?status=completed", "status"),
        ("/v1/orders?cursor=%0a", "cursor"),
        ("/v1/orders?page=2", "page"),
        ("/v1/orders?limit=1&limit=2", "limit"),
        ("/v1/products?q=%00", "q"),
        ("/v1/products?q=%FF", "q"),
        ("/v1/products?status=PENDING", "status"),
    ] {
        assert_eq!(gateway.get(path).await.fields(422, "validation_failed"), [field], "{path}");
    }
    assert_eq!(gateway.double.calls(), 0);
}

/// Bodies that are nearly right are more dangerous than noise.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let mangled = (0..GOOD_ORDER.len(), any::<u8>()).prop_map(|(at, byte)| {
        let mut body = GOOD_ORDER.as_bytes().to_vec();
        body[at] = byte;
        body
    });
    let cut = (0..GOOD_ORDER.len()).prop_map(|at| GOOD_ORDER.as_bytes()[..at].to_vec());
    let json = "[\\[\\]{}:,\"0-9a-z.\\\\ue-]{0,64}".prop_map(String::into_bytes);
    let noise = prop::collection::vec(any::<u8>(), 0..256);
    prop_oneof![noise, mangled, cut, json]
}

#[test]
fn no_body_whatever_causes_a_server_error_and_every_refusal_is_a_problem() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = runtime.block_on(Gateway::start());
    let paths = prop_oneof![Just("/v1/orders"), Just("/v1/tokens"), Just("/v1/orders/x/cancel")];
    let run = TestRunner::default().run(&(paths, bodies()), |(path, body)| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("authorization", format!("Bearer {}", gateway.alice()))
            .header("idempotency-key", "k")
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = runtime.block_on(gateway.send(request));
        prop_assert!(!answer.status.is_server_error(), "{answer:?}");
        if !answer.status.is_success() {
            prop_assert_eq!(answer.header("content-type"), "application/problem+json");
            let document = answer.json();
            prop_assert_eq!(document["status"].as_u64(), Some(answer.status.as_u16().into()));
            prop_assert_eq!(document["trace_id"].as_str(), Some(answer.header("x-trace-id")));
        }
        Ok(())
    });
    run.unwrap();
}

#[test]
fn no_header_whatever_causes_a_server_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = runtime.block_on(Gateway::start());
    let names = prop_oneof![
        Just("authorization"),
        Just("idempotency-key"),
        Just("content-type"),
        Just("content-length"),
        Just("traceparent"),
    ];
    let values = prop::collection::vec(any::<u8>(), 0..64)
        .prop_filter_map("a header value", |bytes| http::HeaderValue::from_bytes(&bytes).ok());
    let run = TestRunner::default().run(&(names, values), |(name, value)| {
        let mut request = request(Method::POST, "/v1/orders", &gateway.alice(), GOOD_ORDER);
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request.headers_mut().insert(name, value);
        let answer = runtime.block_on(gateway.send(request));
        prop_assert!(!answer.status.is_server_error(), "{answer:?}");
        Ok(())
    });
    run.unwrap();
}
