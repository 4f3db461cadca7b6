#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use std::collections::{HashMap, HashSet};

use portolan_kernel::OrderId;
use portolan_messaging::outbox;
use portolan_runtime::database;
use portolan_testkit::{TestRecord, cloud_events};

use crate::support::{Bench, count};

fn first_occurrences(records: Vec<TestRecord>) -> HashMap<Vec<u8>, Vec<i64>> {
    let mut versions: HashMap<Vec<u8>, Vec<i64>> = HashMap::new();
    for record in records {
        let version = record.header("ce_aggregateversion").unwrap().parse().unwrap();
        let seen = versions.entry(record.key.clone()).or_default();
        if !seen.contains(&version) {
            seen.push(version);
        }
    }
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn each_keys_events_are_published_in_the_order_of_their_commits_by_competing_relays() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        bench.start_relay();
    }
    let keys: Vec<OrderId> = (0..8).map(|_| bench.key()).collect();
    for _ in 0..25 {
        let events: Vec<_> = keys.iter().map(|key| bench.event(*key, "u")).collect();
        bench.commit(&events).await;
    }
    bench.outbox_empty().await;
    let published = first_occurrences(bench.published().await);
    assert_eq!(published.len(), keys.len());
    for versions in published.values() {
        assert_eq!(versions.len(), 25, "nothing is lost");
        assert!(versions.is_sorted(), "nothing overtakes: {versions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_rolled_back_transaction_is_never_published() {
    let bench = Bench::new().await;
    let (kept, undone) = (bench.key(), bench.key());
    let mut tx = database::begin(bench.pool()).await.unwrap();
    outbox::append(&mut tx, &[bench.event(undone, "u")]).await.unwrap();
    tx.rollback().await.unwrap();
    bench.commit(&[bench.event(kept, "u")]).await;
    bench.start_relay();
    bench.outbox_empty().await;
    let keys: Vec<String> = bench
        .published()
        .await
        .into_iter()
        .map(|record| String::from_utf8(record.key).unwrap())
        .collect();
    assert_eq!(keys, [kept.to_string()]);
    assert_eq!(count(bench.pool(), "SELECT count(*) FROM event_log").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_record_is_a_cloud_event_in_binary_mode() {
    let bench = Bench::new().await;
    let (first, second) = (bench.key(), bench.key());
    bench
        .commit(&[bench.event(first, "u"), bench.event(second, "u"), bench.event(first, "v")])
        .await;
    bench.start_relay();
    bench.outbox_empty().await;
    let records = bench.published().await;
    assert_eq!(cloud_events(&records), Ok(()));
    let ids: HashSet<_> = records.iter().map(|record| record.header("ce_id")).collect();
    assert_eq!(ids.len(), 3);
    let record = records.iter().find(|record| record.key == first.to_string().as_bytes()).unwrap();
    let header = |name| record.header(name).unwrap_or_default();
    assert_eq!(header("ce_type"), "portolan.order.confirmed.v1");
    assert_eq!(header("ce_subject"), first.to_string());
    assert_eq!(header("ce_time"), "1970-01-01T00:00:00Z");
}
