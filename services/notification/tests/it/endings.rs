use portolan_proto::{
    Event as _,
    events::v1::{NotificationSent, OrderCancelled, OrderConfirmed},
    notification::v1::{NotificationKind, NotificationStatus},
};
use portolan_testkit::eventually;
use prost::Message as _;
use tonic::Code;

use crate::support::{Office, PATIENCE, cancelled, completed, new_id, new_order};

#[tokio::test]
async fn without_a_mail_server_an_orders_end_is_recorded_and_told() {
    let office = Office::open().await;
    let mut replica = office.replica().await;
    let order = new_order();
    assert_eq!(replica.list(&order.to_string()).await.unwrap(), []);

    // The pivot is not the end: only the completion is told.
    let confirmed = OrderConfirmed { order_id: order.to_string(), user_id: "alice".to_owned() };
    let pivot = new_id();
    office.publish(pivot, order, 3, &confirmed).await;
    office.until_consumed(pivot).await;
    assert_eq!(office.stored(order).await, []);

    office.complete(order).await;
    office.until_stored(order, "confirmed", "SENT").await;
    assert_eq!(office.handed_over(order).await, 1);
    let told = office.published(order).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].header("ce_type"), Some(NotificationSent::TYPE));
    let traceparent = told[0].header("traceparent").unwrap();
    assert!(traceparent.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{traceparent}");
    let event = NotificationSent::decode(told[0].payload.as_slice()).unwrap();
    assert_eq!(event.message_id, format!("{order}.confirmed@portolan"));

    let shown = replica.list(&order.to_string()).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].kind(), NotificationKind::Confirmed);
    assert_eq!(shown[0].status(), NotificationStatus::Sent);
    assert_eq!(shown[0].message_id, event.message_id);
    assert!(shown[0].sent_at.is_some());
    let status = replica.list("order-1").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_and_duplicates_make_one_notification_for_each_order() {
    const ORDERS: usize = 60;
    let office = Office::open().await;
    let (one, two) = (office.replica().await, office.replica().await);

    let orders: Vec<_> = (0..ORDERS).map(|_| (new_order(), new_id())).collect();
    // The same records, the same events under new ids, and the same records again.
    for round in 0..3 {
        let round = orders.iter().enumerate().map(|(n, (order, id))| {
            let id = if round == 1 { new_id() } else { *id };
            let office = &office;
            async move {
                if n % 2 == 0 {
                    office.publish(id, *order, 4, &completed(*order)).await;
                } else {
                    office.publish(id, *order, 2, &cancelled(*order)).await;
                }
            }
        });
        futures::future::join_all(round).await;
    }
    eventually(PATIENCE, "every distinct event is consumed", async || {
        let consumed: i64 = sqlx::query_scalar("SELECT count(*) FROM inbox WHERE grp = 4")
            .fetch_one(office.pool())
            .await
            .unwrap();
        (consumed == 2 * 60).then_some(())
    })
    .await;

    for (n, (order, _)) in orders.iter().enumerate() {
        let kind = if n % 2 == 0 { "confirmed" } else { "cancelled" };
        assert_eq!(office.stored(*order).await, [(kind.to_owned(), "SENT".to_owned())]);
        assert_eq!(office.handed_over(*order).await, 1);
    }
    let told: i64 = sqlx::query_scalar("SELECT count(*) FROM event_log")
        .fetch_one(office.pool())
        .await
        .unwrap();
    assert_eq!(told, 60);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn an_order_that_ended_twice_is_told_once_and_the_contradiction_set_aside() {
    let office = Office::open().await;
    let replica = office.replica().await;
    let (first, second, unknown_reason) = (new_order(), new_order(), new_order());
    office.cancel(first).await;
    let late = office.complete(first).await;
    office.complete(second).await;
    let later = office.cancel(second).await;
    let strange = new_id();
    let event = OrderCancelled { reason: 99, ..cancelled(unknown_reason) };
    office.publish(strange, unknown_reason, 2, &event).await;
    for event in [late, later, strange] {
        office.until_consumed(event).await;
    }

    assert_eq!(office.stored(first).await, [("cancelled".to_owned(), "SENT".to_owned())]);
    assert_eq!(office.stored(second).await, [("confirmed".to_owned(), "SENT".to_owned())]);
    assert_eq!(office.stored(unknown_reason).await, []);
    let reason = "SELECT count(*) FROM parked
                  WHERE grp = 4 AND event_id = $1 AND reason = 'impossible_transition'";
    assert_eq!(office.count(reason, late).await, 1);
    assert_eq!(office.count(reason, later).await, 1);
    let reason = "SELECT count(*) FROM parked
                  WHERE grp = 4 AND event_id = $1 AND reason = 'invalid_event'";
    assert_eq!(office.count(reason, strange).await, 1);
    replica.stop().await;
}
