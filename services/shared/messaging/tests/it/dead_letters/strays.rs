//! Records without a sound envelope.

use portolan_kernel::IdGen as _;
use portolan_messaging::ops::{OpsError, Outcome, Target};
use portolan_proto::Topic;
use portolan_testkit::TestRecord;
use uuid::Uuid;

use super::{ids, olga, parked, queue, redrive};
use crate::{
    consumer::settle,
    support::{Bench, POISON, count},
};

/// Delivers a record like `template` under another id, with or without the time that every sound
/// envelope has.
async fn deliver_as(bench: &Bench, template: &TestRecord, id: Uuid, sound: bool) {
    let headers: Vec<(&str, String)> = template
        .headers
        .iter()
        .filter(|(name, _)| sound || name != "ce_time")
        .map(|(name, value)| {
            let value = String::from_utf8(value.clone()).unwrap();
            (name.as_str(), if name == "ce_id" { id.to_string() } else { value })
        })
        .collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    bench.kafka.produce(Topic::Order, &template.key, &headers, &template.payload).await;
}

/// Makes envelopes sound that lack a time, as a program that can do without would.
async fn mend(bench: &Bench) {
    let mended = "UPDATE parked SET headers = headers || '{\"ce_time\": \"2026-11-21T08:00:00Z\"}'";
    sqlx::query(mended).execute(bench.pool()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_sound_envelope_is_dealt_with_alone() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, "u"]).await;
    let template = bench.published().await.remove(1);
    let (one, other) = (bench.ids.next(), bench.ids.next());
    deliver_as(&bench, &template, one, false).await;
    deliver_as(&bench, &template, other, false).await;
    parked(&bench, 4).await;
    let waited = ids(&bench).await;
    let first = Target::Event(waited[2]);
    let refused = ops.redrive(&first, &olga()).await.unwrap();
    let Outcome::Refused(fault) = refused.outcome else { panic!("{refused:?}") };
    assert_eq!(fault.reason, "malformed_envelope");
    ops.give_up(waited[3], &olga()).await.unwrap();

    // A program that can read it does not let it overtake the queue of its key.
    mend(&bench).await;
    let early = ops.redrive(&first, &olga()).await;
    assert!(matches!(early, Err(OpsError::NotFirst { first }) if first == waited[0]), "{early:?}");
    bench.bug.fix();
    assert_eq!(redrive(&ops, key).await.unwrap().applied, 2);
    assert_eq!(ops.redrive(&first, &olga()).await.unwrap().outcome, Outcome::Applied);
    assert_eq!(bench.applied(key).await, [waited[0], waited[1], one]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_sound_envelope_that_is_older_than_the_inbox_is_not_applied() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON]).await;
    let template = bench.published().await.remove(0);
    let old = Uuid::from_u128(bench.ids.next().as_u128() - ((16 * 86_400_000) << 80));
    deliver_as(&bench, &template, old, false).await;
    parked(&bench, 2).await;
    let stray = Target::Event(ids(&bench).await[1]);
    mend(&bench).await;
    bench.bug.fix();
    redrive(&ops, key).await.unwrap();
    let refused = ops.redrive(&stray, &olga()).await.unwrap();
    assert!(matches!(&refused.outcome, Outcome::Refused(fault) if fault.reason == "stale"));
    assert_eq!(bench.applied(key).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_came_again_with_a_sound_envelope_is_applied_once() {
    let bench = Bench::new().await;
    let key = bench.key();
    bench.commit(&[bench.event(key, POISON)]).await;
    bench.start_relay();
    bench.outbox_empty().await;
    let template = bench.published().await.remove(0);
    let copies = [bench.ids.next(), bench.ids.next()];
    for sound in [false, true] {
        for id in copies {
            deliver_as(&bench, &template, id, sound).await;
        }
    }
    let ops = bench.start_consumer(0).await;
    bench.received(5).await;
    bench.bug.fix();
    mend(&bench).await;
    let original: Uuid = template.header("ce_id").unwrap().parse().unwrap();
    ops.redrive(&Target::Event(original), &olga()).await.unwrap();
    // What claimed their ids took nothing away from them; now it is found to be the same.
    let strays = ids(&bench).await;
    assert_eq!(strays.len(), 2);
    for id in strays {
        let done = ops.redrive(&Target::Event(id), &olga()).await.unwrap();
        assert_eq!((done.outcome, done.applied), (Outcome::Applied, 0));
    }
    assert_eq!(bench.applied(key).await, [original, copies[0], copies[1]]);
    settle(&bench, key).await;
    assert_eq!(count(bench.pool(), "SELECT count(*) FROM parked_key").await, 0);
}
