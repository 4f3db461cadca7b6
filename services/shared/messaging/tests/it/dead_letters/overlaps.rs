//! What happens at the same time as a redrive: another one, new events, a crash.

use portolan_messaging::ops::{OpsError, Outcome, STEP, STEP_BYTES};
use portolan_proto::ops::v1::{self as pb, dead_letter_service_server::DeadLetterService};
use portolan_testkit::eventually;
use tonic::Request;

use super::{everything, ids, olga, parked, queue, redrive, trail};
use crate::{
    consumer::settle,
    support::{Bench, GATE, PANIC, PATIENCE, POISON, count},
};

/// Ends the database sessions of whoever holds a key's lock, as a crash would.
async fn crash(bench: &Bench) {
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                 WHERE locktype = 'advisory' AND granted
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let ended: i64 = sqlx::query_scalar(ended).fetch_one(bench.db.pool()).await.unwrap();
    assert_eq!(ended, 1, "exactly the redrive holds a lock");
}

/// What becomes of work whose database connection is lost at the gate.
pub(super) fn crashed_at_gate<T>(
    bench: &Bench,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let crash = async move {
        bench.bug.at_gate().await;
        crash(bench).await;
        bench.bug.open_gate();
    };
    Box::pin(async { tokio::join!(work, crash).0 })
}

/// Waits until somebody waits for a key's lock.
async fn queued_up(bench: &Bench) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually(PATIENCE, "somebody waits for the key", async || {
        (count(bench.db.pool(), waiting).await == 1).then_some(())
    })
    .await;
}

/// What two operators get who overlap: the second begins while the first is at the gate.
async fn overlapping<T>(
    bench: &Bench,
    one: impl Future<Output = T>,
    other: impl Future<Output = T>,
) -> (T, T) {
    let second = async {
        bench.bug.at_gate().await;
        let (done, ()) = tokio::join!(other, async {
            queued_up(bench).await;
            bench.bug.open_gate();
        });
        done
    };
    tokio::join!(one, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_redrive_finds_nothing_and_two_at_once_apply_every_event_once() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, GATE, "u"]).await;
    let waited = ids(&bench).await;
    bench.bug.fix();
    let (one, other) = Box::pin(overlapping(&bench, redrive(&ops, key), redrive(&ops, key))).await;
    assert_eq!(one.unwrap().applied, 3);
    assert!(matches!(other, Err(OpsError::NotFound)), "{other:?}");
    assert!(matches!(redrive(&ops, key).await, Err(OpsError::NotFound)));
    assert_eq!(bench.applied(key).await, waited);
    assert_eq!(trail(&bench).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_drops_of_one_event_drop_that_event_alone() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, GATE, PANIC, "u"]).await;
    let waited = ids(&bench).await;
    let by = olga();
    let drop = || ops.give_up(waited[0], &by);
    let (one, other) = Box::pin(overlapping(&bench, drop(), drop())).await;
    let one = one.unwrap();
    assert!(matches!(&one.outcome, Outcome::Stopped(fault) if fault.event_id == waited[2]));
    assert!(matches!(other, Err(OpsError::NotFound)), "{other:?}");
    assert!(matches!(drop().await, Err(OpsError::NotFound)));
    assert_eq!(ids(&bench).await, waited[2..]);
    assert_eq!(bench.applied(key).await, waited[1..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_redrive_changes_nothing() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, "u", GATE, "u"]).await;
    let waited = ids(&bench).await;
    let before = everything(&bench).await;
    bench.bug.fix();
    let result = crashed_at_gate(&bench, redrive(&ops, key)).await;
    assert!(matches!(result, Err(OpsError::NotNow(_))), "{result:?}");
    assert_eq!(everything(&bench).await, before);
    assert_eq!(trail(&bench).await, []);
    let done = redrive(&ops, key).await.unwrap();
    assert_eq!((done.outcome, done.applied), (Outcome::Applied, 4));
    assert_eq!(bench.applied(key).await, waited);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_arrive_during_a_redrive_come_after_what_was_set_aside() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, GATE, "u"]).await;
    let other = bench.key();
    bench.bug.fix();
    let (done, ()) = tokio::join!(redrive(&ops, key), async {
        bench.bug.at_gate().await;
        bench.commit(&[bench.event(key, "u"), bench.event(key, "u")]).await;
        bench.outbox_empty().await;
        queued_up(&bench).await;
        bench.bug.open_gate();
    });
    assert_eq!(done.unwrap().outcome, Outcome::Applied);
    settle(&bench, other).await;
    eventually(PATIENCE, "the late ones are applied", async || {
        (bench.applied(key).await.len() == 5).then_some(())
    })
    .await;
    let applied = bench.applied(key).await;
    assert!(applied.is_sorted(), "ids count upwards, so this is the order of the commits");
    assert_eq!(count(bench.pool(), "SELECT count(*) FROM parked").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_takes_several_transactions_and_goes_on_where_a_crash_ended_it() {
    let bench = Bench::new().await;
    let mut users = vec!["u"; STEP + 40];
    (users[0], users[STEP + 20]) = (POISON, GATE);
    let (ops, key) = queue(&bench, &users).await;
    let waited = ids(&bench).await;
    bench.bug.fix();
    let result = crashed_at_gate(&bench, redrive(&ops, key)).await;
    assert!(matches!(result, Err(OpsError::NotNow(_))), "{result:?}");
    assert_eq!(bench.applied(key).await, waited[..STEP]);

    // What is left waits without being dead, is listed, and cannot be dropped; what comes, waits.
    let listed = ops.list(Request::new(pb::ListRequest::default())).await.unwrap().into_inner();
    let [left] = listed.dead_letters.as_slice() else { panic!("{listed:?}") };
    assert_eq!((left.reason.as_str(), left.waiting), ("", 39));
    let refused = ops.give_up(waited[STEP], &olga()).await;
    assert!(matches!(refused, Err(OpsError::NotDead)), "{refused:?}");
    bench.commit(&[bench.event(key, "u")]).await;
    parked(&bench, 41).await;

    let done = redrive(&ops, key).await.unwrap();
    assert_eq!((done.outcome, done.applied), (Outcome::Applied, 41));
    let applied = bench.applied(key).await;
    assert_eq!(applied.len(), STEP + 41);
    assert!(applied.is_sorted(), "in the order of the commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_large_events_takes_several_transactions() {
    let bench = Bench::new().await;
    let large = "u".repeat(STEP_BYTES / 10);
    let mut users = vec![large.as_str(); 14];
    (users[0], users[13]) = (POISON, GATE);
    let (ops, key) = queue(&bench, &users).await;
    let waited = ids(&bench).await;
    bench.bug.fix();
    let result = crashed_at_gate(&bench, redrive(&ops, key)).await;
    assert!(matches!(result, Err(OpsError::NotNow(_))), "{result:?}");
    assert_eq!(bench.applied(key).await, waited[..11]);
    assert_eq!(redrive(&ops, key).await.unwrap().applied, 3);
}
