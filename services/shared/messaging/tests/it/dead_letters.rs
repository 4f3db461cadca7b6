//! What an operator does about dead letters.
#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

mod overlaps;
mod served;
mod strays;

use portolan_kernel::OrderId;
use portolan_messaging::{
    Outgoing,
    ops::{DeadLetters, KeyResult, OpsError, Outcome, Target, Warrant},
};
use portolan_proto::ops::v1::{
    self as pb, dead_letter_service_server::DeadLetterService, selection::Target as Chosen,
};
use portolan_runtime::database;
use portolan_testkit::eventually;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::{
    consumer::{deliver_again, settle},
    support::{Applier, Bench, PANIC, PATIENCE, POISON, count},
};

type Ops = DeadLetters<Applier>;

fn olga() -> Warrant {
    Warrant { operator: "olga".to_owned(), reason: "the cause is fixed".to_owned() }
}

/// A queue of one key: an event for each user, of which the first must be refused.
async fn queue(bench: &Bench, users: &[&str]) -> (Ops, OrderId) {
    let key = bench.key();
    let events: Vec<Outgoing> = users.iter().map(|user| bench.event(key, user)).collect();
    bench.commit(&events).await;
    let ops = bench.start_consumer(0).await;
    parked(bench, users.len()).await;
    bench.outbox_empty().await;
    (ops, key)
}

/// Waits until that many events are set aside.
async fn parked(bench: &Bench, events: usize) {
    eventually(PATIENCE, "the events are set aside", async || {
        let set_aside = count(bench.pool(), "SELECT count(*) FROM parked").await;
        (usize::try_from(set_aside).unwrap() == events).then_some(())
    })
    .await;
}

async fn redrive(ops: &Ops, key: OrderId) -> Result<KeyResult, OpsError> {
    ops.redrive(&Target::Key(key.to_string()), &olga()).await
}

/// Everything about the queue, to see whether it changed.
async fn everything(bench: &Bench) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT p::text FROM parked AS p UNION ALL SELECT k::text FROM parked_key AS k
         UNION ALL SELECT i::text FROM inbox AS i UNION ALL SELECT a::text FROM applied AS a
         ORDER BY 1",
    )
    .fetch_all(bench.pool())
    .await
    .unwrap()
}

/// The ids of the queue, in order.
async fn ids(bench: &Bench) -> Vec<Uuid> {
    let ids = sqlx::query_scalar("SELECT event_id FROM parked ORDER BY seq");
    ids.fetch_all(bench.pool()).await.unwrap()
}

/// What the trail says: event and outcome, in order.
async fn trail(bench: &Bench) -> Vec<(Uuid, String)> {
    sqlx::query_as("SELECT event_id, outcome FROM dead_letter_action ORDER BY seq")
        .fetch_all(bench.pool())
        .await
        .unwrap()
}

async fn inbox_has(bench: &Bench, id: Uuid, status: &str) -> bool {
    let found: Option<String> = sqlx::query_scalar("SELECT status FROM inbox WHERE event_id = $1")
        .bind(id)
        .fetch_optional(bench.pool())
        .await
        .unwrap();
    found.as_deref() == Some(status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_applies_the_dead_letter_and_what_waits_behind_it_in_order() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, "u", "u", "u", "u"]).await;
    let waited = ids(&bench).await;
    let records = bench.published().await;
    bench.bug.fix();
    let done = redrive(&ops, key).await.unwrap();
    assert_eq!((done.outcome, done.applied, done.waiting), (Outcome::Applied, 5, 0));
    assert_eq!(bench.applied(key).await, waited);
    for table in ["SELECT count(*) FROM parked", "SELECT count(*) FROM parked_key"] {
        assert_eq!(count(bench.pool(), table).await, 0, "{table}");
    }
    let expected: Vec<_> = waited.iter().map(|id| (*id, "applied".to_owned())).collect();
    assert_eq!(trail(&bench).await, expected);
    for id in &waited {
        assert!(inbox_has(&bench, *id, "done").await);
    }

    // The key goes on, what is delivered again is known, and nothing was published again.
    settle(&bench, key).await;
    deliver_again(&bench, &records).await;
    settle(&bench, key).await;
    assert_eq!(bench.applied(key).await.len(), 7);
    assert_eq!(bench.published().await.len(), 5 + 1 + 5 + 1);
    assert_eq!(bench.kafka.consume_named("portolan.dlq.test.v1").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_names_an_event() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON]).await;
    let before = everything(&bench).await;
    for target in [Chosen::Key(key.to_string()), Chosen::AllFrom(String::new())] {
        let selection = Some(pb::Selection { target: Some(target) });
        let warrant = Some(pb::Warrant { operator: "olga".to_owned(), reason: "no".to_owned() });
        let request = Request::new(pb::DropRequest { selection, warrant });
        let refused = ops.drop(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert_eq!(everything(&bench).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_still_refused_changes_nothing_and_the_answer_says_why() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, "u"]).await;
    let before = everything(&bench).await;
    let done = redrive(&ops, key).await.unwrap();
    let Outcome::Refused(fault) = done.outcome else { panic!("{done:?}") };
    assert_eq!(
        (fault.reason.as_str(), done.applied, done.waiting),
        ("impossible_transition", 0, 1)
    );
    assert_eq!(everything(&bench).await, before);
    assert_eq!(trail(&bench).await, [(fault.event_id, "refused".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_behind_a_dead_letter_that_is_refused_becomes_the_dead_letter() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON, "u", PANIC, "u"]).await;
    let waited = ids(&bench).await;
    bench.bug.fix();
    let done = redrive(&ops, key).await.unwrap();
    let Outcome::Stopped(fault) = &done.outcome else { panic!("{done:?}") };
    assert_eq!((fault.event_id, fault.reason.as_str()), (waited[2], "panicked"));
    assert_eq!((done.applied, done.waiting), (2, 1));
    assert_eq!(bench.applied(key).await, waited[..2]);
    assert!(inbox_has(&bench, waited[2], "dead").await);
    bench.outbox_empty().await;
    let letters = bench.kafka.consume_named("portolan.dlq.test.v1").await;
    let reasons: Vec<_> = letters.iter().map(|letter| letter.header("dlq_reason")).collect();
    assert_eq!(reasons, [Some("impossible_transition"), Some("panicked")]);

    // It can be given up: what waits behind it is applied.
    let done = ops.give_up(waited[2], &olga()).await.unwrap();
    assert_eq!((done.outcome, done.applied, done.waiting), (Outcome::Applied, 1, 0));
    assert_eq!(bench.applied(key).await, [waited[0], waited[1], waited[3]]);
    assert!(inbox_has(&bench, waited[2], "dropped").await);
    let outcomes: Vec<String> = trail(&bench).await.into_iter().map(|(_, what)| what).collect();
    assert_eq!(outcomes, ["applied", "applied", "dead", "dropped", "applied"]);

    // A dropped event that is delivered again stays dropped.
    deliver_again(&bench, &bench.published().await).await;
    settle(&bench, key).await;
    assert_eq!(bench.applied(key).await.len(), 4);
    assert_eq!(count(bench.pool(), "SELECT count(*) FROM parked").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_can_be_neither_redriven_nor_dropped_before_what_it_waits_for() {
    let bench = Bench::new().await;
    let (ops, _) = queue(&bench, &[POISON, "u"]).await;
    let waited = ids(&bench).await;
    let before = everything(&bench).await;
    bench.bug.fix();
    let second = Target::Event(waited[1]);
    for refused in [ops.redrive(&second, &olga()).await, ops.give_up(waited[1], &olga()).await] {
        let Err(OpsError::NotFirst { first }) = refused else { panic!("{refused:?}") };
        assert_eq!(first, waited[0]);
    }
    assert_eq!(everything(&bench).await, before);
    assert_eq!(trail(&bench).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_id_another_one_has_is_not_lost() {
    let bench = Bench::new().await;
    let key = bench.key();
    bench.commit(&[bench.event(key, POISON)]).await;
    bench.start_relay();
    bench.outbox_empty().await;
    let id: Uuid = bench.published().await[0].header("ce_id").unwrap().parse().unwrap();
    let other =
        "INSERT INTO parked (grp, key, event_id, topic, kafka_partition, kafka_offset, headers,
                     payload, reason)
                 VALUES (9, 'k', $1, 't', 0, 0, '{}', '', 'malformed_envelope')";
    sqlx::query(other).bind(id).execute(bench.pool()).await.unwrap();

    // The consumer waits for whoever is about to take the other one away, which then stays.
    let mut undecided = database::begin(bench.pool()).await.unwrap();
    sqlx::query("DELETE FROM parked").execute(&mut *undecided).await.unwrap();
    let ops = bench.start_consumer(0).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
    eventually(PATIENCE, "the consumer waits for the other event", async || {
        (count(bench.db.pool(), waiting).await >= 1).then_some(())
    })
    .await;
    undecided.rollback().await.unwrap();
    ops.give_up(id, &olga()).await.unwrap();
    eventually(PATIENCE, "the event is set aside", async || {
        let there = "SELECT count(*) FROM parked WHERE reason = 'impossible_transition'";
        (count(bench.pool(), there).await == 1).then_some(())
    })
    .await;
    bench.bug.fix();
    assert_eq!(redrive(&ops, key).await.unwrap().applied, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_marked_though_nothing_waits_goes_on_after_a_redrive() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON]).await;
    sqlx::query("DELETE FROM parked").execute(bench.pool()).await.unwrap();
    let done = redrive(&ops, key).await.unwrap();
    assert_eq!((done.outcome, done.applied), (Outcome::Applied, 0));
    settle(&bench, key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_older_than_the_inbox_remembers_can_be_redriven() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON]).await;
    let id = ids(&bench).await.remove(0);
    let old = Uuid::from_u128(id.as_u128() - ((16 * 86_400_000) << 80));
    let aged = "UPDATE parked SET event_id = $1,
                    headers = jsonb_set(headers, '{ce_id}', to_jsonb($1::text))";
    sqlx::query(aged).bind(old).execute(bench.pool()).await.unwrap();
    sqlx::query("DELETE FROM inbox").execute(bench.pool()).await.unwrap();
    bench.bug.fix();
    assert_eq!(redrive(&ops, key).await.unwrap().outcome, Outcome::Applied);
    assert_eq!(bench.applied(key).await, [old]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_without_a_name_and_a_reason() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON]).await;
    bench.bug.fix();
    for (operator, reason, field) in [("", "r", "operator"), ("o", " ", "reason")] {
        let by = Warrant { operator: operator.to_owned(), reason: reason.to_owned() };
        let refused = ops.redrive(&Target::Key(key.to_string()), &by).await;
        let Err(OpsError::Unacceptable { field: named, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(named, field);
    }
    assert!(bench.applied(key).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_cannot_be_rewritten() {
    let bench = Bench::new().await;
    let (ops, key) = queue(&bench, &[POISON]).await;
    redrive(&ops, key).await.unwrap();
    for statement in
        ["UPDATE dead_letter_action SET operator = 'x'", "DELETE FROM dead_letter_action"]
    {
        let refused = sqlx::query(statement).execute(bench.db.pool()).await.unwrap_err();
        assert!(refused.to_string().contains("is only ever added to"), "{statement}: {refused}");
    }
    assert_eq!(trail(&bench).await.len(), 1);
}
