//! What is on the topics is what is promised to whoever reads them.

use std::collections::BTreeSet;

use portolan_e2e::Shop;
use portolan_proto::{EVENT_TYPES, Event as _, events::v1::NotificationFailed};
use portolan_testkit::cloud_events;

#[tokio::test]
async fn every_record_of_every_ending_is_a_cloud_event_in_binary_mode() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    for card in ["tok_ok_1", "tok_declined_1", "tok_capture_fails_1", "tok_hang_1"] {
        let order = alice.place(&[("CUP", 2), ("TEAPOT", 1)], card).await;
        if card.starts_with("tok_hang") {
            alice.becomes(order, "AWAITING_PAYMENT").await;
            let _ = alice.cancel(order).await.unwrap().expect(200);
        }
        alice.final_order(order).await;
    }
    let too_many = alice.place(&[("CLOCK", 4)], "tok_ok_2").await;
    alice.final_order(too_many).await;
    shop.assert_sound().await;

    let records = shop.records().await;
    assert_eq!(cloud_events(records.iter().map(|(_, record)| record)), Ok(()));
    let mut told = BTreeSet::new();
    for (topic, record) in &records {
        let event_type = record.header("ce_type").unwrap();
        assert!(EVENT_TYPES.contains(&(event_type, *topic)), "{event_type} on {}", topic.name());
        told.insert(event_type);
    }
    // Without a mail server no message fails.
    let known = EVENT_TYPES.iter().map(|(event_type, _)| *event_type);
    assert_eq!(told, known.filter(|known| *known != NotificationFailed::TYPE).collect());
}
