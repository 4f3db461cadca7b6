use portolan_kernel::ErrorCode;
use portolan_proto::order::v1::OrderStatus;
use serde_json::json;

use crate::support::{Bench, place, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_one_order_and_always_gets_its_first_answer() {
    let bench = Bench::new(json!({}), 1).await;
    let first = bench.place("alice", "k1").await.unwrap();
    let order = first.order.clone().unwrap();
    assert!(!first.replayed);
    assert_eq!(order.status(), OrderStatus::Pending);
    assert_eq!(order.amount.unwrap().minor_units, 250);
    let again = bench.place("alice", "k1").await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.order, first.order);
    let other = place(bench.client(0), request("alice", "k1", "B", 2)).await.unwrap_err();
    assert_eq!(
        (other.code, other.reason.as_str()),
        (ErrorCode::AlreadyExists, "idempotency_key_reused")
    );
    let bobs = bench.place("bob", "k1").await.unwrap();
    assert_ne!(bobs.order.unwrap().id, order.id, "keys are the customer's own");
    assert_eq!(bench.published(&order.id).await, ["portolan.order.placed.v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_bound_to_its_request_after_its_stored_answer_is_gone() {
    let bench = Bench::new(json!({}), 1).await;
    let first = bench.place("alice", "k1").await.unwrap().order.unwrap();
    sqlx::query("DELETE FROM idempotency").execute(bench.pool()).await.unwrap();
    let again = bench.place("alice", "k1").await.unwrap();
    assert_eq!((again.replayed, again.order.unwrap().id), (true, first.id));
    let other = place(bench.client(0), request("alice", "k1", "B", 2)).await.unwrap_err();
    assert_eq!(other.reason, "idempotency_key_reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ordered_is_refused_by_name_and_leaves_nothing_behind() {
    let bench = Bench::new(json!({}), 1).await;
    let unknown = place(bench.client(0), request("alice", "k", "NOPE", 1)).await.unwrap_err();
    assert_eq!(
        (unknown.code, unknown.reason.as_str()),
        (ErrorCode::InvalidArgument, "unknown_sku")
    );
    assert!(unknown.message.contains("NOPE"));
    let mut many = request("alice", "k", "A", 1);
    many.lines = (0..999)
        .map(|n| portolan_proto::common::v1::OrderLine {
            sku: format!("NO-SUCH-THING-{n}"),
            quantity: 1,
        })
        .collect();
    let many = place(bench.client(0), many).await.unwrap_err();
    assert_eq!(many.reason, "unknown_sku", "however many they are");
    assert!(many.message.contains("and 979 more"), "{}", many.message);
    let zero = place(bench.client(0), request("alice", "k", "A", 0)).await.unwrap_err();
    assert_eq!(zero.violations[0].field, "lines[0].quantity");
    let mut mixed = request("alice", "k", "A", 1);
    mixed.lines.push(portolan_proto::common::v1::OrderLine { sku: "USD".to_owned(), quantity: 1 });
    let mixed = place(bench.client(0), mixed).await.unwrap_err();
    assert_eq!(mixed.reason, "mixed_currencies");
    assert_eq!(bench.count("SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM idempotency) + (SELECT count(*) FROM user_guard)").await, 0);
}
