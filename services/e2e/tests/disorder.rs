//! Kafka records that come twice, late, in another order, or from nobody.
#![expect(clippy::unwrap_used, reason = "tests")]

use portolan_e2e::{Service, Shop};
use portolan_proto::{
    Event as _, Topic,
    events::v1::{InventoryReserved, OrderConfirmed},
};
use portolan_testkit::{PATIENCE, TestRecord, eventually};
use uuid::Uuid;

const WITH_INBOX: [Service; 4] =
    [Service::Order, Service::Inventory, Service::Payment, Service::Notification];

/// Orders that end in every way.
async fn orders(shop: &Shop) {
    let alice = shop.customer("alice");
    for card in ["tok_ok_1", "tok_declined_1", "tok_capture_fails_1", "tok_ok_2", "tok_hang_1"] {
        let order = alice.place(&[("CUP", 2), ("TEAPOT", 1)], card).await;
        if card.starts_with("tok_hang") {
            alice.becomes(order, "AWAITING_PAYMENT").await;
            let _ = alice.cancel(order).await.unwrap().expect(200);
        }
        alice.final_order(order).await;
    }
    shop.assert_sound().await;
}

/// Every effect that could happen twice.
async fn effects(shop: &Shop) -> Vec<i64> {
    let counts = [
        (Service::Order, "SELECT sum(version)::bigint FROM orders"),
        (Service::Order, "SELECT count(*) FROM order_event"),
        (Service::Order, "SELECT count(*) FROM order_timeline"),
        (Service::Order, "SELECT count(*) FROM event_log"),
        (Service::Inventory, "SELECT count(*) FROM stock_ledger"),
        (Service::Inventory, "SELECT count(*) FROM event_log"),
        (Service::Payment, "SELECT sum(version)::bigint FROM payment"),
        (Service::Payment, "SELECT count(*) FROM payment_ledger"),
        (Service::Payment, "SELECT count(*) FROM event_log"),
        (Service::Notification, "SELECT count(*) FROM mail_ledger"),
        (Service::Notification, "SELECT count(*) FROM event_log"),
        (Service::Psp, "SELECT count(*) FROM operation"),
    ];
    let mut found = Vec::new();
    for (service, sql) in counts {
        found.push(shop.count(service, sql).await);
    }
    found
}

async fn produce(shop: &Shop, topic: Topic, record: &TestRecord) {
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let headers: Vec<(String, String)> =
        record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    shop.kafka().produce(topic, &record.key, &headers, &record.payload).await;
}

async fn forget_inboxes(shop: &Shop) {
    for service in WITH_INBOX {
        let truncated = sqlx::query("TRUNCATE inbox").execute(shop.database(service)).await;
        truncated.unwrap();
    }
}

#[tokio::test]
async fn records_that_are_delivered_again_in_any_order_change_nothing() {
    let shop = Shop::open().await;
    orders(&shop).await;
    let before = effects(&shop).await;
    let records = shop.records().await;
    assert!(records.len() > 25, "{}", records.len());
    // The same again, then all of it backwards: across topics, and older ones after younger ones.
    for (topic, record) in records.iter().chain(records.iter().rev()) {
        produce(&shop, *topic, record).await;
    }
    shop.caught_up().await;
    assert_eq!(effects(&shop).await, before);
    shop.assert_sound().await;

    // Even when nobody remembers having seen them.
    shop.caught_up().await;
    forget_inboxes(&shop).await;
    for (topic, record) in records.iter().rev() {
        produce(&shop, *topic, record).await;
    }
    shop.caught_up().await;
    assert_eq!(effects(&shop).await, before);
    shop.assert_sound().await;
}

#[tokio::test]
async fn every_topic_can_be_read_again_from_its_beginning_with_empty_inboxes() {
    let shop = Shop::open().await;
    orders(&shop).await;
    let before = effects(&shop).await;
    for service in WITH_INBOX {
        shop.kill(service, 0);
    }
    shop.forget_offsets().await;
    forget_inboxes(&shop).await;
    for service in WITH_INBOX {
        shop.start(service, 0);
    }
    for service in WITH_INBOX {
        shop.ready(service, 0).await;
    }
    shop.caught_up().await;
    assert_eq!(effects(&shop).await, before);
    shop.assert_sound().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_ok_3").await;
    alice.becomes(order, "COMPLETED").await;
    shop.assert_sound().await;
}

#[tokio::test]
async fn a_cancellation_that_overtakes_the_reservation_leaves_nothing_to_pay() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    shop.kill(Service::Payment, 0);
    let order = alice.place(&[("CLOCK", 3)], "tok_ok_1").await;
    alice.becomes(order, "AWAITING_PAYMENT").await;
    let _ = alice.cancel(order).await.unwrap().expect(200);
    // The payment service hears of the cancellation only ...
    shop.skip_to_end(Service::Payment, Topic::Inventory).await;
    shop.restart(Service::Payment, 0).await;
    let tombstones = "SELECT count(*) FROM payment WHERE state = 'CANCELLED'";
    eventually(PATIENCE, "the payment is refused in advance", async || {
        (shop.count(Service::Payment, tombstones).await == 1).then_some(())
    })
    .await;
    // ... and afterwards of the reservation that came first.
    for (topic, record) in shop.records().await {
        if record.header("ce_type") == Some(InventoryReserved::TYPE) {
            produce(&shop, topic, &record).await;
        }
    }
    shop.caught_up().await;
    assert_eq!(shop.count(Service::Payment, tombstones).await, 1);
    assert_eq!(shop.count(Service::Psp, "SELECT count(*) FROM operation").await, 0);
    // What the payment service skipped besides is delivered late, too.
    for (topic, record) in shop.records().await {
        if topic == Topic::Inventory {
            produce(&shop, topic, &record).await;
        }
    }
    shop.assert_sound().await;
}

#[tokio::test]
async fn a_forged_event_becomes_an_explained_dead_letter_and_the_auditor_names_it() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    alice.becomes(order, "COMPLETED").await;
    shop.assert_sound().await;
    let records = shop.records().await;
    let (topic, template) = records
        .iter()
        .find(|(_, record)| record.header("ce_type") == Some(OrderConfirmed::TYPE))
        .unwrap();
    // A confirmation of an order that was never placed.
    let stranger = Uuid::from_u128(order.as_u128() ^ 1).to_string();
    let mut forged = template.clone();
    forged.key = stranger.clone().into_bytes();
    let id = template.header("ce_id").unwrap().parse::<Uuid>().unwrap();
    for (name, value) in &mut forged.headers {
        match name.as_str() {
            "ce_id" => *value = Uuid::from_u128(id.as_u128() ^ 1).to_string().into_bytes(),
            "ce_subject" | "ce_partitionkey" => *value = stranger.clone().into_bytes(),
            _ => {}
        }
    }
    produce(&shop, *topic, &forged).await;
    shop.caught_up().await;
    let parked = "SELECT count(*) FROM parked WHERE reason IS NOT NULL";
    for service in [Service::Inventory, Service::Payment] {
        eventually(PATIENCE, "it is set aside with a reason", async || {
            (shop.count(service, parked).await == 1).then_some(())
        })
        .await;
    }
    let found = shop.audit(&["--settle-secs", "5"]).await;
    assert_eq!(found.code, Some(1));
    assert_eq!(found.violated(), ["I10", "Q6"], "{found:#?}");
    let explained = ["--settle-secs", "5", "--accept-explained-dead-letters"];
    let found = shop.audit(&explained).await;
    assert_eq!(found.violated(), ["I10"], "{found:#?}");
    // Nobody else has to wait for it.
    let order = alice.place(&[("CUP", 1)], "tok_ok_2").await;
    alice.becomes(order, "COMPLETED").await;
}
