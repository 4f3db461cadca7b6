#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use portolan_kernel::OrderId;
use portolan_proto::Topic;
use portolan_testkit::{TestRecord, eventually};
use uuid::Uuid;

use crate::support::{Bench, PANIC, PATIENCE, POISON, count};

/// Delivers records again, exactly as they were.
pub(crate) async fn deliver_again(bench: &Bench, records: &[TestRecord]) {
    for record in records {
        let headers: Vec<(&str, &str)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap()))
            .collect();
        let key = &record.key;
        let payload = &record.payload;
        bench.kafka.produce(Topic::Order, key, &headers, payload).await;
    }
}

/// Publishes one more event and waits for it: everything before it has been dealt with.
pub(crate) async fn settle(bench: &Bench, key: OrderId) {
    let before = bench.applied(key).await.len();
    bench.commit(&[bench.event(key, "u")]).await;
    eventually(PATIENCE, "the last event is applied", async || {
        (bench.applied(key).await.len() > before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_applied_once_however_often_and_late_it_is_delivered() {
    let bench = Bench::new().await;
    bench.start_consumer(0).await;
    let key = bench.key();
    let events: Vec<_> = (0..10).map(|_| bench.event(key, "u")).collect();
    bench.commit(&events).await;
    bench.received(10).await;
    let records = bench.published().await;
    deliver_again(&bench, &records).await;
    deliver_again(&bench, &records[..3]).await;
    settle(&bench, key).await;
    let applied = bench.applied(key).await;
    assert_eq!(applied.len(), 11);
    assert!(applied.is_sorted(), "ids count upwards, so this is the order of the commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_database_delays_records_but_loses_and_reorders_none() {
    let bench = Bench::new().await;
    let keys: Vec<OrderId> = (0..5).map(|_| bench.key()).collect();
    for _ in 0..6 {
        let events: Vec<_> = keys.iter().map(|key| bench.event(*key, "u")).collect();
        bench.commit(&events).await;
    }
    bench.start_consumer(4).await;
    bench.received(30).await;
    for key in keys {
        let applied = bench.applied(key).await;
        assert_eq!(applied.len(), 6);
        assert!(applied.is_sorted());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record_is_buried_alone_and_only_its_key_waits_behind_it() {
    let bench = Bench::new().await;
    let (healthy, sick) = (bench.key(), bench.key());
    let mut events = Vec::new();
    for n in 0..7 {
        events.push(bench.event(healthy, "u"));
        events.push(bench.event(sick, if n == 2 { POISON } else { "u" }));
    }
    bench.commit(&events).await;
    bench.start_consumer(0).await;
    bench.received(14).await;
    bench.outbox_empty().await;
    assert_eq!(bench.applied(healthy).await.len(), 7, "neighbours are not hurt");
    assert_eq!(bench.applied(sick).await.len(), 2, "nothing of the key is applied after it");
    let parked: Vec<(Uuid, Option<String>)> =
        sqlx::query_as("SELECT event_id, reason FROM parked ORDER BY seq")
            .fetch_all(bench.pool())
            .await
            .unwrap();
    assert_eq!(parked.len(), 5);
    assert_eq!(parked[0].1.as_deref(), Some("impossible_transition"));
    assert!(parked[1..].iter().all(|(_, reason)| reason.is_none()));
    assert!(parked.is_sorted_by_key(|(id, _)| *id), "parked in order");
    let letters = bench.kafka.consume_named("portolan.dlq.test.v1").await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("dlq_reason"), Some("impossible_transition"));
    assert_eq!(letters[0].header("ce_id"), Some(parked[0].0.to_string().as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_pattern_of_poison_is_found_and_nothing_else_is_buried() {
    let bench = Bench::new().await;
    // A fixed, irregular pattern: runs of poison at both ends and in the middle.
    let pattern = 0b1100_0000_0101_1101_0000_0000_0000_1011_u64;
    let keys: Vec<OrderId> = (0..32).map(|_| bench.key()).collect();
    let poisoned = |n: usize| pattern >> n & 1 == 1;
    let events: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| bench.event(*key, if poisoned(n) { POISON } else { "u" }))
        .collect();
    bench.commit(&events).await;
    bench.start_consumer(0).await;
    bench.received(32).await;
    eventually(PATIENCE, "every record is dealt with", async || {
        let dead = count(bench.pool(), "SELECT count(*) FROM parked").await;
        let applied = count(bench.pool(), "SELECT count(*) FROM applied").await;
        (dead + applied == 32).then_some(())
    })
    .await;
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(bench.applied(*key).await.len(), usize::from(!poisoned(n)), "record {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_sound_envelope_is_buried_once_and_parks_nobody() {
    let bench = Bench::new().await;
    bench.start_consumer(0).await;
    let key = bench.key();
    let key_bytes = key.to_string().into_bytes();
    bench.kafka.produce(Topic::Order, &key_bytes, &[("ce_id", "not-a-uuid")], b"\xff\x00").await;
    bench.kafka.produce(Topic::Order, b"", &[], b"").await;
    settle(&bench, key).await;
    bench.received(3).await;
    assert_eq!(bench.applied(key).await.len(), 1);
    assert_eq!(
        count(bench.pool(), "SELECT count(*) FROM parked WHERE reason = 'malformed_envelope'")
            .await,
        2
    );
    assert_eq!(count(bench.pool(), "SELECT count(*) FROM parked_key").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_records_are_buried_and_what_comes_after_them_is_applied() {
    let bench = Bench::new().await;
    let key = bench.key();
    let long_key: Vec<u8> =
        (0..20_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let long_value = "v".repeat(20_000);
    bench.kafka.produce(Topic::Order, &long_key, &[("ce_id", &long_value)], b"x").await;
    bench.kafka.produce(Topic::Order, b"a\0b", &[("ce_type", "a\0b")], vec![0; 600_000]).await;
    bench.start_consumer(0).await;
    settle(&bench, key).await;
    bench.received(3).await;
    bench.outbox_empty().await;
    assert_eq!(bench.kafka.consume_named("portolan.dlq.test.v1").await.len(), 2);
    assert_eq!(bench.applied(key).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_makes_the_handler_panic_is_poison_like_any_other() {
    let bench = Bench::new().await;
    let (healthy, sick) = (bench.key(), bench.key());
    bench
        .commit(&[bench.event(healthy, "u"), bench.event(sick, PANIC), bench.event(healthy, "u")])
        .await;
    bench.start_consumer(0).await;
    settle(&bench, healthy).await;
    bench.received(4).await;
    assert_eq!(bench.applied(healthy).await.len(), 3);
    assert_eq!(
        count(bench.pool(), "SELECT count(*) FROM parked WHERE reason = 'panicked'").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_older_than_the_inbox_remembers_is_skipped() {
    let bench = Bench::new().await;
    let key = bench.key();
    bench.commit(&[bench.event(key, "u")]).await;
    bench.start_relay();
    bench.outbox_empty().await;
    let record = bench.published().await.remove(0);
    let old = Uuid::from_u128(
        record.header("ce_id").unwrap().parse::<Uuid>().unwrap().as_u128()
            - ((16 * 86_400_000) << 80),
    );
    let headers: Vec<(&str, String)> = record
        .headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8(value.clone()).unwrap();
            (name.as_str(), if name == "ce_id" { old.to_string() } else { value })
        })
        .collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let payload = &record.payload;
    bench.kafka.produce(Topic::Order, key.to_string().as_bytes(), &headers, payload).await;
    bench.start_consumer(0).await;
    bench.received(2).await;
    assert_eq!(
        bench.applied(key).await,
        [record.header("ce_id").unwrap().parse::<Uuid>().unwrap()]
    );
}
