#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use futures::future::join_all;
use portolan_auth::Role;
use portolan_kernel::ErrorCode;
use portolan_proto::{
    Topic,
    events::v1 as events,
    order::v1::{self as proto, CancelReason, OrderStatus},
};
use portolan_runtime::grpc::Remote;
use portolan_testkit::eventually;
use serde_json::json;
use tokio_stream::StreamExt as _;

use crate::support::{Bench, PATIENCE, asked_by};

async fn placed(bench: &Bench, key: &str) -> String {
    bench.place("alice", key).await.unwrap().order.unwrap().id
}

async fn cancel(bench: &Bench, order: &str) -> Result<proto::Order, Remote> {
    let request =
        proto::CancelOrderRequest { user_id: "alice".to_owned(), order_id: order.to_owned() };
    let request = asked_by("alice", Role::Customer, request);
    let answer = bench.client(0).cancel_order(request).await.map_err(Remote::from)?;
    Ok(answer.into_inner().order.unwrap())
}

fn reserved(order: &str) -> events::InventoryReserved {
    events::InventoryReserved { order_id: order.to_owned(), ..Default::default() }
}

fn authorized(order: &str) -> events::PaymentAuthorized {
    events::PaymentAuthorized { order_id: order.to_owned(), ..Default::default() }
}

async fn fulfil(bench: &Bench, order: &str) {
    bench.tell(order, 2, &events::InventoryCommitted { order_id: order.to_owned() }).await;
    bench
        .tell(order, 2, &events::PaymentCaptured { order_id: order.to_owned(), amount: None })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_order_completes_and_its_customer_and_timeline_know() {
    let bench = Bench::new(json!({}), 1).await;
    let order = placed(&bench, "k").await;
    bench.tell(&order, 1, &reserved(&order)).await;
    bench.becomes(&order, OrderStatus::AwaitingPayment).await;
    bench.tell(&order, 1, &authorized(&order)).await;
    bench.becomes(&order, OrderStatus::Confirmed).await;
    fulfil(&bench, &order).await;
    let done = bench.becomes(&order, OrderStatus::Completed).await;
    assert_eq!(done.version, 4);
    let stats = bench.stats("alice").await;
    assert_eq!((stats.orders, stats.completed, stats.open), (1, 1, 0));
    assert_eq!(stats.spent[0].minor_units, 250);
    assert_eq!(
        bench.published(&order).await,
        ["portolan.order.placed.v1", "portolan.order.confirmed.v1", "portolan.order.completed.v1"]
    );
    let request =
        proto::GetTimelineRequest { user_id: "alice".to_owned(), order_id: order.clone() };
    let entries = eventually(PATIENCE, "the timeline is whole", async || {
        let answer = bench
            .client(0)
            .get_timeline(asked_by("alice", Role::Customer, request.clone()))
            .await
            .unwrap();
        let entries = answer.into_inner().entries;
        (entries.len() == 7).then_some(entries)
    })
    .await;
    let told = entries.iter().find(|entry| entry.r#type == "portolan.payment.captured.v1").unwrap();
    assert_eq!(told.trace_id, "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_may_come_in_any_order_across_topics_and_twice() {
    let bench = Bench::new(json!({}), 2).await;
    let order = placed(&bench, "k").await;
    bench.tell(&order, 1, &authorized(&order)).await;
    bench.becomes(&order, OrderStatus::Confirmed).await;
    bench.tell(&order, 1, &reserved(&order)).await;
    fulfil(&bench, &order).await;
    bench.becomes(&order, OrderStatus::Completed).await;
    bench.tell(&order, 1, &authorized(&order)).await;
    fulfil(&bench, &order).await;
    let next = placed(&bench, "k2").await;
    bench.tell(&next, 1, &authorized(&next)).await;
    bench.becomes(&next, OrderStatus::Confirmed).await;
    assert_eq!(bench.get(&order).await.version, 3);
    assert_eq!(bench.count("SELECT count(*) FROM parked").await, 0);
    assert_eq!(bench.stats("alice").await.completed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_and_cancellation_race_on_one_row_and_one_wins() {
    let bench = Bench::new(json!({}), 2).await;
    let mut orders = Vec::new();
    for n in 0..12 {
        orders.push(placed(&bench, &format!("k{n}")).await);
    }
    let races = orders.iter().map(|order| async {
        let approval = async { bench.tell(order, 1, &authorized(order)).await };
        let (answer, ()) = tokio::join!(cancel(&bench, order), approval);
        answer.is_ok()
    });
    let cancelled = join_all(races).await;
    for (order, cancelled) in orders.iter().zip(cancelled) {
        let expected = if cancelled { OrderStatus::Cancelled } else { OrderStatus::Confirmed };
        bench.becomes(order, expected).await;
        let decisions = bench.published(order).await;
        assert_eq!(decisions.len(), 2, "placed and one decision: {decisions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_customer_may_cancel_until_confirmed_and_again_once_cancelled() {
    let bench = Bench::new(json!({}), 1).await;
    let early = placed(&bench, "k1").await;
    assert_eq!(cancel(&bench, &early).await.unwrap().cancel_reason(), CancelReason::Customer);
    assert_eq!(
        cancel(&bench, &early).await.unwrap().version,
        2,
        "cancelling twice changes nothing"
    );
    let late = placed(&bench, "k2").await;
    bench.tell(&late, 1, &authorized(&late)).await;
    bench.becomes(&late, OrderStatus::Confirmed).await;
    let refused = cancel(&bench, &late).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (ErrorCode::FailedPrecondition, "order_not_cancellable")
    );
    let request = proto::CancelOrderRequest { user_id: "bob".to_owned(), order_id: late };
    let request = asked_by("bob", Role::Customer, request);
    let foreign = Remote::from(bench.client(0).cancel_order(request).await.unwrap_err());
    assert_eq!(foreign.code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_deadline_cancels_once_with_two_sweepers() {
    let bench = Bench::new(json!({ "deadline_secs": 1, "sweep_interval_ms": 50 }), 2).await;
    let order = placed(&bench, "k").await;
    let cancelled = bench.becomes(&order, OrderStatus::Cancelled).await;
    assert_eq!(cancelled.cancel_reason(), CancelReason::Timeout);
    assert_eq!(
        bench.published(&order).await,
        ["portolan.order.placed.v1", "portolan.order.cancelled.v1"]
    );
    let stats = bench.stats("alice").await;
    assert_eq!((stats.cancelled, stats.open), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_cancel_with_their_reason() {
    let bench = Bench::new(json!({}), 1).await;
    let (short, declined, lost) =
        (placed(&bench, "k1").await, placed(&bench, "k2").await, placed(&bench, "k3").await);
    bench
        .tell(
            &short,
            1,
            &events::InventoryRejected { order_id: short.clone(), sku: "A".to_owned() },
        )
        .await;
    bench
        .tell(
            &declined,
            1,
            &events::PaymentDeclined { order_id: declined.clone(), code: "no".to_owned() },
        )
        .await;
    bench.tell(&lost, 1, &authorized(&lost)).await;
    bench
        .tell(
            &lost,
            3,
            &events::PaymentCaptureFailed { order_id: lost.clone(), code: "expired".to_owned() },
        )
        .await;
    for (order, reason) in [
        (&short, CancelReason::OutOfStock),
        (&declined, CancelReason::PaymentDeclined),
        (&lost, CancelReason::CaptureFailed),
    ] {
        assert_eq!(bench.becomes(order, OrderStatus::Cancelled).await.cancel_reason(), reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_fact_is_set_aside_with_its_reason_and_changes_nothing() {
    let bench = Bench::new(json!({}), 1).await;
    let order = placed(&bench, "k").await;
    bench.tell(&order, 2, &events::PaymentCaptured { order_id: order.clone(), amount: None }).await;
    let stranger = bench.unknown_order().to_string();
    bench.tell(&stranger, 1, &authorized(&stranger)).await;
    eventually(PATIENCE, "both are set aside", async || {
        (bench.count("SELECT count(*) FROM parked WHERE reason IN ('impossible_transition', 'unknown_order')").await == 2).then_some(())
    })
    .await;
    assert_eq!(bench.get(&order).await.status(), OrderStatus::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_topics_delivered_again_to_an_empty_inbox_change_nothing() {
    let bench = Bench::new(json!({}), 1).await;
    let order = placed(&bench, "k").await;
    bench.tell(&order, 1, &reserved(&order)).await;
    bench.tell(&order, 1, &authorized(&order)).await;
    bench.becomes(&order, OrderStatus::Confirmed).await;
    fulfil(&bench, &order).await;
    bench.becomes(&order, OrderStatus::Completed).await;
    bench.published(&order).await;
    let before = bench.get(&order).await;
    let records = [Topic::Order, Topic::Inventory, Topic::Payment]
        .map(|topic| (topic, bench.kafka.consume_all(topic)));
    let mut total = 0;
    sqlx::query("TRUNCATE inbox").execute(bench.pool()).await.unwrap();
    for (topic, records) in records {
        for record in records.await {
            let headers: Vec<(&str, &str)> = record
                .headers
                .iter()
                .map(|(n, v)| (n.as_str(), std::str::from_utf8(v).unwrap()))
                .collect();
            bench.kafka.produce(topic, &record.key, &headers, &record.payload).await;
            total += 1;
        }
    }
    eventually(PATIENCE, "all are received again", async || {
        (bench.count("SELECT count(*) FROM inbox").await >= total).then_some(())
    })
    .await;
    assert_eq!(bench.get(&order).await, before);
    assert_eq!(bench.count("SELECT count(*) FROM parked").await, 0);
    assert_eq!(bench.stats("alice").await.completed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_an_order_to_its_end() {
    let bench = Bench::new(json!({}), 1).await;
    let order = placed(&bench, "k").await;
    let request = proto::WatchOrderRequest { user_id: "alice".to_owned(), order_id: order.clone() };
    let request = asked_by("alice", Role::Customer, request);
    let mut stream = bench.client(0).watch_order(request).await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap().order.unwrap();
    assert_eq!(first.status(), OrderStatus::Pending);
    cancel(&bench, &order).await.unwrap();
    let last = stream.next().await.unwrap().unwrap().order.unwrap();
    assert_eq!(last.status(), OrderStatus::Cancelled);
    assert!(stream.next().await.is_none(), "the stream ends with the order");
}
