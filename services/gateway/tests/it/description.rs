use axum::body::Body;
use http::Method;
use serde_json::Value;

use crate::{
    double::ORDER_ID,
    support::{Gateway, request},
};

const COMMITTED: &str = include_str!("../../../../docs/openapi.json");

#[test]
fn the_committed_description_is_that_of_the_code() {
    let generated = portolan_gateway::openapi::json().unwrap();
    assert!(
        generated == COMMITTED,
        "regenerate it: cargo run -p portolan-gateway --example openapi > docs/openapi.json"
    );
}

#[tokio::test]
async fn the_description_is_served_without_a_token() {
    let gateway = Gateway::start().await;
    let public = http::Request::builder().uri("/openapi.json").body(Body::empty()).unwrap();
    let answer = gateway.send(public).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

fn description() -> Value {
    serde_json::from_str(COMMITTED).unwrap()
}

#[tokio::test]
async fn every_described_operation_exists_and_demands_a_token_where_it_says_so() {
    let gateway = Gateway::start().await;
    let mut seen = 0;
    for (path, operations) in description()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let address = path.replace("{id}", ORDER_ID).replace("{sku}", "85123A");
            let address = address.replace("{group}", "order").replace("{event_id}", ORDER_ID);
            let bare = http::Request::builder().method(method.clone()).uri(address);
            let answer = gateway.send(bare.body(Body::empty()).unwrap()).await;
            let secured = operation["security"][0].get("bearer").is_some();
            assert_eq!(answer.status == 401, secured, "{method} {path}: {}", answer.status);
            assert!(![404, 405].contains(&answer.status.as_u16()), "{method} {path}");
            seen += 1;
        }
    }
    assert_eq!(seen, 16);
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str() {
                        Some(target) if name == "$ref" => found.push(target.to_owned()),
                        Some(_) | None => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let description = description();
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 50);
    for target in found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{target}");
    }
}

#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let gateway = Gateway::start().await;
    let description = description();
    for (path, schema) in [
        ("/v1/products", "ProductPage"),
        ("/v1/products/A", "Product"),
        ("/v1/orders?status=PENDING", "OrderPage"),
        ("/v1/me/stats", "Stats"),
    ] {
        let answer = gateway.send(request(Method::GET, path, &gateway.alice(), "")).await;
        assert_eq!(answer.status, 200, "{path}");
        let schema = &description["components"]["schemas"][schema];
        let body = answer.json();
        for name in schema["required"].as_array().unwrap() {
            assert!(body.get(name.as_str().unwrap()).is_some(), "{path} lacks {name}");
        }
        for name in body.as_object().unwrap().keys() {
            assert!(schema["properties"].get(name).is_some(), "{path}: {name} is not described");
        }
    }
}
