//! A sound shop with one completed and one cancelled order, and every way to break it.

use std::collections::HashMap;

use portolan_proto::Topic;
use uuid::Uuid;

use super::{
    super::{
        inventory::{Reservation, Stock},
        messaging::{Consumed, Dealt, Logged, Messaging, Parked},
        notification::{Mail, Notification},
        order::{Answer, Guard, Order, Transition},
        payment::{Booked, Payment},
        provider::Operation,
        report::Finding,
        requests::Attempt,
        sources::Snapshot,
        topics::Published,
    },
    Rules, at_any_time, at_rest,
};

const DONE: Uuid = Uuid::from_u128(1);
const GONE: Uuid = Uuid::from_u128(2);

fn order(id: Uuid, state: &str, steps: &[&str], all: &mut Snapshot) {
    let key = format!("key-{}", id.as_u128());
    all.order.orders.push(Order {
        id,
        user: "alice".to_owned(),
        key: key.clone(),
        state: state.to_owned(),
        reason: (state == "CANCELLED").then(|| "CUSTOMER".to_owned()),
        amount: 500,
        currency: "GBP".to_owned(),
        version: i64::try_from(steps.len()).unwrap(),
    });
    for (step, version) in steps.iter().zip(1..) {
        let state = (*step).to_owned();
        all.order.transitions.push(Transition { order: id, version, state, logged: true });
    }
    all.order.answers.push(Answer { user: "alice".to_owned(), key, order: id, answered: Some(id) });
}

fn messaging(all: &mut Snapshot, topic: Topic) -> &mut Messaging {
    match topic {
        Topic::Order => &mut all.order.messaging,
        Topic::Inventory => &mut all.inventory.messaging,
        Topic::Payment => &mut all.payment.messaging,
        Topic::Notification => &mut all.notification.messaging,
    }
}

/// Commits, publishes, consumes and tells an event.
fn event(all: &mut Snapshot, topic: Topic, key: Uuid, name: &str, version: i64) {
    let number = all.topics.records.len();
    let id = Uuid::from_u128(1000 + number as u128);
    let kind = format!("portolan.{name}.v1");
    let sha256 = vec![u8::try_from(number).unwrap(); 32];
    all.topics.records.push(Published {
        topic,
        partition: 0,
        offset: i64::try_from(number).unwrap(),
        key: Some(key),
        id: Some(id),
        kind: kind.clone(),
        sha256: sha256.clone(),
    });
    let topic_name = topic.name().to_owned();
    messaging(all, topic).logged.push(Logged { id, key, topic: topic_name, kind, version, sha256 });
    all.order.timeline.insert((key, id));
    let readers: &[(Topic, i16)] = match topic {
        Topic::Order => &[
            (Topic::Order, 1),
            (Topic::Inventory, 2),
            (Topic::Payment, 3),
            (Topic::Notification, 4),
        ],
        Topic::Inventory => &[(Topic::Order, 1), (Topic::Payment, 3)],
        Topic::Payment | Topic::Notification => &[(Topic::Order, 1)],
    };
    for (reader, group) in readers {
        let status = "done".to_owned();
        messaging(all, *reader).consumed.push(Consumed { group: *group, id, status });
    }
}

fn books(all: &mut Snapshot) -> &mut Vec<Operation> {
    &mut all.provider.get_or_insert_default().operations
}

fn operation(all: &mut Snapshot, order: Uuid, key: &str, outcome: &str) {
    books(all).push(Operation {
        idempotency_key: format!("{key}:{order}"),
        order: Some(order),
        amount: 500,
        currency: Some("GBP".to_owned()),
        outcome: outcome.to_owned(),
    });
}

fn notify(all: &mut Snapshot, order: Uuid, kind: &str) {
    let message_id = format!("{order}.{kind}");
    let (kind, state) = (kind.to_owned(), "SENT".to_owned());
    let mail = Mail { order, kind: kind.clone(), message_id: message_id.clone() };
    all.notification.mails.push(mail);
    all.notification.notifications.push(Notification { order, kind, state, message_id });
}

fn sound() -> Snapshot {
    let mut all = Snapshot::default();
    order(DONE, "COMPLETED", &["PENDING", "AWAITING_PAYMENT", "CONFIRMED", "COMPLETED"], &mut all);
    order(GONE, "CANCELLED", &["PENDING", "AWAITING_PAYMENT", "CANCELLED"], &mut all);
    all.order.guards.push(Guard {
        user: "alice".to_owned(),
        fence: 7,
        open: 0,
        placed: 2,
        completed: 1,
        cancelled: 1,
    });
    all.order.spent.insert(("alice".to_owned(), "GBP".to_owned()), 500);
    all.inventory.stock.push(Stock {
        sku: "A".to_owned(),
        on_hand: 8,
        available: 8,
        reserved: 0,
        ledger_available: 8,
        ledger_reserved: 0,
        opening: 10,
        reserved_lines: 0,
        committed_lines: 2,
    });
    for (order, reservation, payment, told) in
        [(DONE, "COMMITTED", "CAPTURED", "CONFIRMED"), (GONE, "RELEASED", "VOIDED", "CANCELLED")]
    {
        all.inventory.reservations.push(Reservation { order, state: reservation.to_owned() });
        all.payment.payments.push(Payment { order, state: payment.to_owned() });
        notify(&mut all, order, told);
        operation(&mut all, order, "auth", "approved");
    }
    operation(&mut all, DONE, "cap", "captured");
    operation(&mut all, GONE, "void", "voided");
    let capture = Booked { order: DONE, kind: "CAPTURE".to_owned(), amount: 500 };
    all.payment.ledger.push(capture);
    for (name, version) in [("placed", 1), ("confirmed", 3), ("completed", 4)] {
        event(&mut all, Topic::Order, DONE, &format!("order.{name}"), version);
    }
    for (name, version) in [("placed", 1), ("cancelled", 3)] {
        event(&mut all, Topic::Order, GONE, &format!("order.{name}"), version);
    }
    event(&mut all, Topic::Inventory, DONE, "inventory.reserved", 1);
    event(&mut all, Topic::Payment, DONE, "payment.authorized", 1);
    event(&mut all, Topic::Notification, DONE, "notification.sent", 1);
    all
}

fn rules() -> Rules {
    let attempts = [DONE, GONE].map(|id| Attempt {
        user: "alice".to_owned(),
        key: format!("key-{}", id.as_u128()),
        order: Some(id),
    });
    Rules {
        attempts: Some(attempts.into()),
        fences: HashMap::from([("alice".to_owned(), 7)]),
        ..Rules::default()
    }
}

fn broken(all: &Snapshot, rules: &Rules) -> Vec<&'static str> {
    let findings: Vec<Finding> =
        at_any_time(all, rules).into_iter().chain(at_rest(all, rules)).collect();
    assert!(findings.iter().all(|finding| finding.violations == 0 || !finding.first.is_empty()));
    findings.iter().filter(|finding| finding.violations > 0).map(|finding| finding.id).collect()
}

#[test]
fn a_sound_shop_has_nothing_to_find_and_every_invariant_looks_at_rows() {
    let (all, rules) = (sound(), rules());
    assert_eq!(broken(&all, &rules), Vec::<&str>::new());
    let unchecked: Vec<_> = at_any_time(&all, &rules)
        .into_iter()
        .chain(at_rest(&all, &rules))
        .filter(|finding| finding.checked == 0)
        .map(|finding| finding.id)
        .collect();
    assert_eq!(unchecked, Vec::<&str>::new());
}

type Breaks = (&'static [&'static str], fn(&mut Snapshot));

/// Each way to break the shop, and the invariants that must notice it (others may as well).
const BREAKS: &[Breaks] = &[
    (&["I1", "I2", "Q5"], |all| all.inventory.stock[0].available = -1),
    (&["I1"], |all| all.inventory.stock[0].on_hand = 9),
    (&["I2"], |all| all.inventory.stock[0].ledger_available = 7),
    (&["I2"], |all| all.inventory.stock[0].ledger_reserved = 1),
    (&["I3"], |all| all.inventory.stock[0].reserved_lines = 1),
    (&["Q5"], |all| all.inventory.stock[0].committed_lines = 1),
    (&["I4"], |all| {
        let state = "CAPTURED".to_owned();
        all.payment.payments.push(Payment { order: DONE, state });
    }),
    (&["I4", "Q3"], |all| {
        notify(all, DONE, "CANCELLED");
    }),
    (&["I5", "Q9"], |all| {
        all.order.transitions.remove(0);
    }),
    (&["I5"], |all| all.order.orders[0].version = 5),
    // A confirmed order may be cancelled only because its capture failed.
    (&["I5", "Q9"], |all| all.order.transitions[5].state = "CONFIRMED".to_owned()),
    (&["I6", "Q1"], |all| all.order.orders[1].key = all.order.orders[0].key.clone()),
    (&["I6"], |all| all.order.answers[0].answered = Some(GONE)),
    (&["I6"], |all| all.order.answers[0].order = GONE),
    (&["I7", "Q3"], |all| operation(all, DONE, "cap2", "captured")),
    (&["I7", "Q4"], |all| operation(all, GONE, "cap", "captured")),
    (&["I7"], |all| operation(all, DONE, "auth2", "approved")),
    (&["I7"], |all| books(all)[0].amount = 600),
    (&["I7"], |all| books(all)[0].currency = Some("USD".to_owned())),
    (&["I7"], |all| operation(all, Uuid::from_u128(3), "auth", "approved")),
    (&["I8"], |all| all.order.guards[0].open = 1),
    (&["I8"], |all| all.order.guards[0].completed = 2),
    (&["I8", "I9"], |all| {
        all.order.spent.clear();
        all.order.guards[0].fence = 6;
    }),
    (&["I10"], |all| all.topics.records[0].sha256 = vec![99; 32]),
    (&["I10"], |all| all.topics.records[0].key = Some(GONE)),
    (&["I10", "Q9"], |all| all.topics.records[0].id = None),
    (&["I10"], |all| {
        let mut again = all.topics.records[0].clone();
        again.sha256 = vec![99; 32];
        all.topics.records.push(again);
    }),
    (&["Q1"], |all| all.order.orders[0].user = "mallory".to_owned()),
    (&["I5", "I8", "Q2", "Q3"], |all| all.order.orders[0].state = "CONFIRMED".to_owned()),
    (&["Q3"], |all| all.inventory.reservations[0].state = "RELEASED".to_owned()),
    (&["Q3"], |all| all.payment.payments[0].state = "VOIDED".to_owned()),
    (&["Q3"], |all| all.payment.ledger.clear()),
    // Provider and books agree, on less than the order's amount.
    (&["Q3"], |all| {
        books(all)[2].amount = 400;
        all.payment.ledger[0].amount = 400;
    }),
    (&["Q3"], |all| operation(all, DONE, "refund", "refunded")),
    (&["Q3"], |all| all.notification.mails[0].message_id = "another".to_owned()),
    (&["Q3"], |all| {
        all.notification.mails.remove(0);
    }),
    (&["Q3"], |all| {
        all.notification.notifications.remove(0);
        all.notification.mails.remove(0);
    }),
    (&["Q3", "Q4"], |all| all.inventory.reservations[1].state = "COMMITTED".to_owned()),
    (&["Q4"], |all| all.inventory.reservations[1].state = "RESERVED".to_owned()),
    (&["Q4"], |all| all.payment.payments[1].state = "AUTHORIZED".to_owned()),
    (&["Q4"], |all| {
        all.notification.notifications.remove(1);
        all.notification.mails.remove(1);
    }),
    (&["Q6"], |all| all.topics.dead.push(("payment", 1))),
    (&["Q6"], |all| {
        let reason = Some("impossible".to_owned());
        let id = Uuid::from_u128(9);
        all.payment.messaging.parked.push(Parked { group: 3, key: DONE.to_string(), id, reason });
    }),
    (&["Q6"], |all| all.payment.messaging.parked_keys.push((3, DONE.to_string()))),
    (&["Q6"], |all| all.payment.messaging.consumed[0].status = "dead".to_owned()),
    (&["Q6"], |all| all.payment.messaging.consumed[0].status = "dropped".to_owned()),
    (&["Q7"], |all| {
        all.payment.messaging.consumed.remove(0);
    }),
    (&["Q7"], |all| all.payment.messaging.consumed[0].id = Uuid::from_u128(9)),
    (&["Q8"], |all| all.topics.records.swap(0, 1)),
    (&["Q8"], |all| all.topics.records[1].partition = 2),
    (&["Q7", "Q9"], |all| {
        all.topics.records.pop();
    }),
    (&["Q9"], |all| all.order.timeline.clear()),
];

#[test]
fn every_planted_violation_is_named_by_its_invariants() {
    for (case, (expected, plant)) in BREAKS.iter().enumerate() {
        let mut all = sound();
        plant(&mut all);
        let found = broken(&all, &rules());
        let missed: Vec<_> = expected.iter().filter(|id| !found.contains(id)).collect();
        assert!(missed.is_empty(), "case {case}: {missed:?} missed, found {found:?}");
    }
}

#[test]
fn an_order_that_nobody_asked_for_is_found_only_with_the_requests() {
    let all = sound();
    let mut rules = rules();
    rules.attempts.as_mut().unwrap().pop();
    assert_eq!(broken(&all, &rules), ["Q1"]);
    rules.attempts_prefix = "another run's".to_owned();
    assert_eq!(broken(&all, &rules), Vec::<&str>::new());
    (rules.attempts, rules.attempts_prefix) = (None, String::new());
    assert_eq!(broken(&all, &rules), Vec::<&str>::new());
}

#[test]
fn without_the_providers_books_our_own_side_of_payments_is_still_compared() {
    let mut all = sound();
    all.provider = None;
    assert_eq!(broken(&all, &rules()), Vec::<&str>::new());
    let skipped = |finding: Finding| finding.skipped.map(|_| finding.id);
    let skipped: Vec<_> = at_any_time(&all, &rules()).into_iter().filter_map(skipped).collect();
    assert_eq!(skipped, ["I7"]);
    all.payment.payments[0].state = "VOIDED".to_owned();
    all.payment.payments[1].state = "CAPTURED".to_owned();
    assert_eq!(broken(&all, &rules()), ["Q3", "Q4"]);
}

#[test]
fn events_that_were_dropped_for_their_age_are_not_missed_but_those_kept_must_fit() {
    let mut all = sound();
    for step in &mut all.order.transitions {
        step.logged = false;
    }
    assert_eq!(broken(&all, &rules()), Vec::<&str>::new());
    let kept = all.order.messaging.logged.pop().unwrap();
    all.topics.records.retain(|record| record.id != Some(kept.id));
    assert!(!broken(&all, &rules()).contains(&"Q9"));
    all.order.messaging.logged[0].kind = "portolan.order.completed.v1".to_owned();
    assert!(broken(&all, &rules()).contains(&"Q9"));
}

#[test]
fn more_open_orders_than_the_limit_are_found() {
    let mut all = sound();
    all.order.guards[0].open = 2;
    for order in &mut all.order.orders {
        order.state = "PENDING".to_owned();
    }
    all.order.guards[0].completed = 0;
    all.order.guards[0].cancelled = 0;
    all.order.spent.clear();
    let holds = |open_order_limit| {
        let rules = Rules { open_order_limit, ..rules() };
        at_any_time(&all, &rules)
            .iter()
            .all(|finding| finding.id != "I8" || finding.violations == 0)
    };
    assert!(holds(0) && holds(2) && !holds(1));
}

#[test]
fn an_explained_dead_letter_is_accepted_only_on_demand() {
    let mut all = sound();
    all.topics.dead.push(("payment", 1));
    let key = DONE.to_string();
    all.payment.messaging.parked_keys.push((3, key.clone()));
    for (id, reason) in [(9, Some("impossible")), (10, None)] {
        let (id, reason) = (Uuid::from_u128(id), reason.map(str::to_owned));
        all.payment.messaging.parked.push(Parked { group: 3, key: key.clone(), id, reason });
    }
    assert_eq!(broken(&all, &rules()), ["Q6"]);
    let accepting = Rules { explained_dead_letters: true, ..rules() };
    assert_eq!(broken(&all, &accepting), Vec::<&str>::new());
    all.payment.messaging.parked[0].reason = None;
    assert_eq!(broken(&all, &accepting), ["Q6"]);
}

#[test]
fn a_dead_letter_that_an_operator_dealt_with_is_none() {
    let mut all = sound();
    all.topics.dead.push(("payment", 2));
    let id = all.payment.messaging.consumed[0].id;
    let dealt = |id, was_dead, outcome: &str| {
        let outcome = outcome.to_owned();
        Dealt { group: 3, id, was_dead, outcome }
    };
    all.payment.messaging.consumed[0].status = "dropped".to_owned();
    all.payment.messaging.dealt.push(dealt(id, true, "dropped"));
    let other = Uuid::from_u128(9);
    // Neither a refusal nor an event that merely waited accounts for the second letter.
    all.payment.messaging.dealt.push(dealt(other, true, "refused"));
    all.payment.messaging.dealt.push(dealt(other, false, "applied"));
    assert_eq!(broken(&all, &rules()), ["Q6"]);
    all.payment.messaging.dealt.push(dealt(other, true, "applied"));
    assert_eq!(broken(&all, &rules()), Vec::<&str>::new());
}

#[test]
fn a_record_that_nobody_committed_is_accepted_only_when_it_was_planted() {
    let mut all = sound();
    let id = Uuid::from_u128(77);
    let planted = Published { id: Some(id), ..all.topics.records[0].clone() };
    all.topics.records.push(planted);
    assert!(broken(&all, &rules()).contains(&"I10"));
    let knowing = Rules { planted: [id].into(), ..rules() };
    assert!(!broken(&all, &knowing).contains(&"I10"));
}
