use axum::body::Body;
use http::Method;
use portolan_auth::Role;
use portolan_proto::ops::v1::selection::Target;
use serde_json::json;

use crate::{
    double::ORDER_ID,
    support::{Answer, Gateway, request},
};

const REDRIVE: &str = "/v1/admin/dlq/payment/redrive";
const DROP: &str = "/v1/admin/dlq/payment/drop";

impl Gateway {
    async fn as_olga(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let token = self.token("olga", &[Role::Operator]);
        self.send(request(method, path, &token, body)).await
    }

    async fn list(&self, query: &str) -> Answer {
        self.as_olga(Method::GET, &format!("/v1/admin/dlq{query}"), Body::empty()).await
    }

    async fn remedy(&self, path: &str, body: serde_json::Value) -> Answer {
        self.as_olga(Method::POST, path, body.to_string()).await
    }
}

#[tokio::test]
async fn only_operators_see_and_touch_dead_letters() {
    let gateway = Gateway::start().await;
    let show = format!("/v1/admin/dlq/order/{ORDER_ID}");
    let body = json!({"key": ORDER_ID, "reason": "fixed"}).to_string();
    for (method, path) in [
        (Method::GET, "/v1/admin/dlq"),
        (Method::GET, show.as_str()),
        (Method::POST, REDRIVE),
        (Method::POST, DROP),
    ] {
        let customer = request(method.clone(), path, &gateway.alice(), body.clone());
        gateway.send(customer).await.problem(403, "forbidden");
        let nobody = request(method, path, "no.such.token", body.clone());
        gateway.send(nobody).await.problem(401, "invalid_token");
    }
    assert_eq!(gateway.double.calls(), 0);
    assert_eq!(gateway.list("").await.status, 200);
}

#[tokio::test]
async fn pages_lead_through_the_groups() {
    let gateway = Gateway::start().await;
    let (mut seen, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = gateway.list(&query).await.json();
        for letter in page["dead_letters"].as_array().unwrap() {
            seen.push(letter["group"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=1&cursor={cursor}");
    }
    let twice = |group: &str| [group.to_owned(), group.to_owned()];
    let groups = ["order", "inventory", "payment", "notification"];
    assert_eq!(seen, groups.map(twice).concat());

    let one = gateway.list("?group=payment&cursor=payment.7").await.json();
    assert_eq!(one["dead_letters"][0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert!(one["next_cursor"].is_null());
    gateway.list("?group=shipping").await.problem(404, "not_found");
    gateway.list("?cursor=shipping.7").await.problem(422, "validation_failed");
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_its_message() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/admin/dlq/inventory/{ORDER_ID}");
    let shown = gateway.as_olga(Method::GET, &path, Body::empty()).await.json();
    assert_eq!(shown["dead_letter"]["group"], "inventory");
    assert_eq!(shown["payload"], json!({"order_id": "o"}));
    for nothing in ["inventory/nonsense", "inventory/%ff", "%ff/%ff"] {
        let path = format!("/v1/admin/dlq/{nothing}");
        gateway.as_olga(Method::GET, &path, Body::empty()).await.problem(404, "not_found");
    }
    for path in ["/v1/admin/dlq/%ff/redrive", "/v1/admin/dlq/%ff/drop"] {
        gateway.remedy(path, json!({})).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn what_an_operator_does_carries_the_subject_of_the_token_and_the_reason() {
    let gateway = Gateway::start().await;
    let answer = gateway.remedy(REDRIVE, json!({"key": ORDER_ID, "reason": " fixed "})).await;
    assert_eq!(answer.status, 200);
    let done = answer.json();
    assert_eq!(done["results"][0]["outcome"], "STOPPED");
    assert_eq!(done["results"][0]["fault"]["reason"], "invalid_event");
    assert_eq!(done["next_cursor"], "9");
    gateway.remedy(DROP, json!({"event_id": ORDER_ID, "reason": "lost"})).await;
    gateway.remedy(REDRIVE, json!({"all": true, "cursor": "3", "reason": "all well"})).await;
    gateway.remedy(REDRIVE, json!({"event_id": ORDER_ID, "reason": "fixed"})).await;
    let asked = gateway.double.remedies();
    let targets: Vec<Target> = asked.iter().map(|(s, _)| s.target.clone().unwrap()).collect();
    let order = ORDER_ID.to_owned();
    let expected =
        [Target::Key(order.clone()), Target::EventId(order), Target::AllFrom("3".into())];
    assert_eq!(targets[..3], expected);
    assert_eq!(targets[3], expected[1]);
    assert!(asked.iter().all(|(_, warrant)| warrant.operator == "olga"));
    assert_eq!(asked[0].1.reason, "fixed");
}

#[tokio::test]
async fn a_remedy_without_a_reason_or_without_one_target_is_refused_by_name() {
    let gateway = Gateway::start().await;
    for (body, field) in [
        (json!({"key": ORDER_ID}), "reason"),
        (json!({"key": ORDER_ID, "reason": " "}), "reason"),
        (json!({"key": ORDER_ID, "reason": "a\nb"}), "reason"),
        (json!({"key": ORDER_ID, "reason": "a\n"}), "reason"),
        (json!({"key": ORDER_ID, "reason": format!(" {}", "r".repeat(500))}), "reason"),
        (json!({"reason": "r"}), "key"),
        (json!({"key": ORDER_ID, "all": true, "reason": "r"}), "key"),
        (json!({"key": "", "reason": "r"}), "key"),
        (json!({"key": ORDER_ID, "cursor": "3", "reason": "r"}), "cursor"),
        (json!({"key": ORDER_ID, "reason": "r", "operator": "eve"}), "operator"),
    ] {
        let problem = gateway.remedy(REDRIVE, body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field);
    }
    for (body, field) in [
        (json!({"key": ORDER_ID, "reason": "r"}), "key"),
        (json!({"all": true, "reason": "r"}), "all"),
        (json!({"event_id": ORDER_ID, "reason": " "}), "reason"),
        (json!({"reason": "r"}), "event_id"),
    ] {
        let problem = gateway.remedy(DROP, body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field);
    }
    assert_eq!(gateway.double.calls(), 0);
    let unknown = json!({"key": ORDER_ID, "reason": "r"});
    let answer = gateway.remedy("/v1/admin/dlq/shipping/redrive", unknown).await;
    answer.problem(404, "not_found");
}
