use futures::future::join_all;
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
async fn concurrent_duplicates_on_two_replicas_wait_and_get_the_same_order() {
    let bench = Bench::new(json!({}), 2).await;
    let duplicates = (0..20).map(|n| place(bench.client(n % 2), request("alice", "same", "A", 2)));
    let answers: Vec<_> = join_all(duplicates).await.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.order == answers[0].order));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert_eq!(bench.count("SELECT count(*) FROM orders").await, 1);
    assert_eq!(bench.stats("alice").await.open, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_orders_of_one_customer_at_once_are_placed_or_told_to_retry() {
    let bench = Bench::new(json!({}), 2).await;
    let keys: Vec<String> = (0..16).map(|n| format!("k{n}")).collect();
    let attempts = keys
        .iter()
        .enumerate()
        .map(|(n, key)| place(bench.client(n % 2), request("alice", key, "A", 1)));
    let mut placed = 0;
    for answer in join_all(attempts).await {
        match answer {
            Ok(_) => placed += 1,
            Err(error) => {
                assert_eq!((error.code, error.reason.as_str()), (ErrorCode::Aborted, "user_busy"));
                assert!(error.retry_after_secs.is_some());
            }
        }
    }
    assert!(placed >= 1);
    assert_eq!(bench.count("SELECT count(*) FROM orders").await, placed);
    assert_eq!(bench.stats("alice").await.orders, placed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_orders_holds_against_concurrent_placements_and_keeps_no_key() {
    let bench = Bench::new(json!({ "open_order_limit": 3 }), 2).await;
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let mut refused = None;
    let mut pending: Vec<&String> = keys.iter().collect();
    while let Some(key) = pending.pop() {
        let attempts = (0..2).map(|n| place(bench.client(n), request("alice", key, "A", 1)));
        for answer in join_all(attempts).await {
            if let Err(error) = answer {
                match error.reason.as_str() {
                    "open_order_limit" => refused = Some(error.code),
                    reason => assert_eq!(reason, "user_busy"),
                }
            }
        }
    }
    assert_eq!(refused, Some(ErrorCode::FailedPrecondition));
    assert_eq!(bench.stats("alice").await.open, 3);
    assert_eq!(bench.count("SELECT count(*) FROM orders").await, 3);
    assert_eq!(bench.count("SELECT count(*) FROM idempotency").await, 3);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_ahead_of_the_lock_is_caught_up_with_and_never_goes_back() {
    let bench = Bench::new(json!({}), 1).await;
    bench.place("alice", "k1").await.unwrap();
    // As after a clock that was an hour ahead: the database has seen a token from the future.
    sqlx::query("UPDATE user_guard SET fence = fence + 3600000000")
        .execute(bench.pool())
        .await
        .unwrap();
    sqlx::query("DELETE FROM user_lock").execute(bench.pool()).await.unwrap();
    let before = bench.count("SELECT fence FROM user_guard").await;
    bench.place("alice", "k2").await.unwrap();
    assert!(bench.count("SELECT fence FROM user_guard").await > before);
}
