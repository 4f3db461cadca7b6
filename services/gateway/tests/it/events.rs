use portolan_proto::order::v1::OrderStatus;
use serde_json::Value;

use crate::{
    double::ORDER_ID,
    support::{Answer, Gateway},
};

/// The events of a stream: name, id and data.
fn events(answer: &Answer) -> Vec<(String, String, Value)> {
    let text = std::str::from_utf8(&answer.bytes).unwrap();
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    blocks
        .map(|block| {
            let data = serde_json::from_str(&field(block, "data:")).unwrap();
            (field(block, "event:"), field(block, "id:"), data)
        })
        .collect()
}

#[tokio::test]
async fn a_stream_tells_every_change_and_ends_when_the_order_is_final() {
    let gateway = Gateway::start().await;
    gateway.double.tell(&[
        OrderStatus::Pending,
        OrderStatus::AwaitingPayment,
        OrderStatus::Confirmed,
        OrderStatus::Completed,
    ]);
    // The double's stream stays open, so this returns only because the gateway ends its own.
    let answer = gateway.get(&format!("/v1/orders/{ORDER_ID}/events")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let told: Vec<_> = events(&answer)
        .into_iter()
        .map(|(name, id, data)| (name, id, data["status"].as_str().unwrap().to_owned()))
        .collect();
    let expected = ["PENDING", "AWAITING_PAYMENT", "CONFIRMED", "COMPLETED"];
    let expected: Vec<_> = (1..)
        .zip(expected)
        .map(|(id, status)| ("order".to_owned(), id.to_string(), status.to_owned()))
        .collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_stream_of_nothing_is_an_answer_and_no_stream() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/orders/{ORDER_ID}/events");
    let bob = gateway.token("bob", &[portolan_auth::Role::Customer]);
    let request = crate::support::request(http::Method::GET, &path, &bob, "");
    gateway.send(request).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_a_problem() {
    let gateway = Gateway::start().await;
    gateway.double.tell(&[OrderStatus::Pending, OrderStatus::Unspecified]);
    let answer = gateway.get(&format!("/v1/orders/{ORDER_ID}/events")).await;
    let events = events(&answer);
    assert_eq!(events.len(), 2);
    assert_eq!((events[1].0.as_str(), &events[1].2["code"]), ("problem", &"internal".into()));
    assert_eq!(events[1].2["trace_id"], answer.header("x-trace-id"));
}

#[tokio::test]
async fn streams_are_counted() {
    let gateway = Gateway::with(|config| config.limits.concurrent_streams = 1).await;
    gateway.double.tell(&[OrderStatus::Completed]);
    let path = format!("/v1/orders/{ORDER_ID}/events");
    for _ in 0..3 {
        assert_eq!(gateway.get(&path).await.status, 200, "a finished stream makes room");
    }
    gateway.double.fall_silent();
    let (_open, second) = tokio::join!(
        tokio::time::timeout(std::time::Duration::from_millis(300), gateway.get(&path)),
        gateway.get(&path),
    );
    second.problem(503, "overloaded");
}
