//! The topics against the event logs, the inboxes and the timeline: I10 and Q6 to Q9.

use std::collections::{HashMap, HashSet};

use portolan_proto::{TOPICS, Topic};
use uuid::Uuid;

use super::super::{
    messaging::{Logged, Messaging},
    report::Finding,
    sources::Snapshot,
    topics::{GROUPS, Topics},
};

/// Which topics each consumer group reads, in the order of the groups' numbers from 1.
const SUBSCRIPTIONS: [(&str, &[Topic]); 4] = [
    ("order", &TOPICS),
    ("inventory", &[Topic::Order]),
    ("payment", &[Topic::Inventory, Topic::Order]),
    ("notification", &[Topic::Order]),
];

/// Each service's events with the one topic it may write.
fn producers(all: &Snapshot) -> [(Topic, &Messaging); 4] {
    [
        (Topic::Order, &all.order.messaging),
        (Topic::Inventory, &all.inventory.messaging),
        (Topic::Payment, &all.payment.messaging),
        (Topic::Notification, &all.notification.messaging),
    ]
}

fn log_of(all: &Snapshot) -> HashMap<Uuid, (Topic, &Logged)> {
    producers(all)
        .into_iter()
        .flat_map(|(topic, messaging)| {
            messaging.logged.iter().map(move |event| (event.id, (topic, event)))
        })
        .collect()
}

/// `planted` are records that are known to be nobody's.
pub(super) fn i10(all: &Snapshot, planted: &HashSet<Uuid>) -> Finding {
    let mut finding = Finding::new(
        "I10",
        "every Kafka record is one that its service committed, unchanged, and ids name one content",
    );
    let log = log_of(all);
    let mut contents: HashMap<Uuid, &[u8]> = HashMap::new();
    for record in &all.topics.records {
        let Some(id) = record.id else {
            finding.expect(false, || format!("{}: has no event id", record.place()));
            continue;
        };
        if planted.contains(&id) {
            continue;
        }
        let same = *contents.entry(id).or_insert(&record.sha256) == record.sha256;
        let committed = log.get(&id).is_some_and(|(topic, event)| {
            *topic == record.topic
                && event.topic == record.topic.name()
                && Some(event.key) == record.key
                && event.kind == record.kind
                && event.sha256 == record.sha256
        });
        finding.expect(same && committed, || {
            let wrong = match (same, log.contains_key(&id)) {
                (false, _) => "another content under the same id",
                (true, true) => "not what was committed",
                (true, false) => "never committed",
            };
            format!("{}: {} {id}: {wrong}", record.place(), record.kind)
        });
    }
    finding
}

/// What an operator has dealt with is none any more. `explained` accepts what has a reason written
/// down.
pub(super) fn q6(all: &Snapshot, explained: bool) -> Finding {
    let mut finding = Finding::new("Q6", "no dead letters and nothing parked behind them");
    for (group, letters) in &all.topics.dead {
        let explained = if explained { dead_in_inbox(all, group) } else { 0 };
        let accepted = dealt_with(all, group) + explained;
        finding.expect(*letters <= accepted, || {
            format!(
                "{letters} records on the dead letter topic of {group}, {accepted} accounted for"
            )
        });
    }
    for (_, messaging) in producers(all) {
        q6_of(messaging, explained, &mut finding);
    }
    finding
}

fn q6_of(messaging: &Messaging, explained: bool, finding: &mut Finding) {
    let mut reasons: HashMap<(i16, &str), bool> = HashMap::new();
    for parked in &messaging.parked {
        let why = reasons.entry((parked.group, &parked.key)).or_default();
        *why |= parked.reason.is_some();
        let reason = parked.reason.as_deref().unwrap_or("waits behind another");
        finding.expect(explained && *why, || format!("{} of {}: {reason}", parked.id, parked.key));
    }
    for (group, key) in &messaging.parked_keys {
        let why = reasons.get(&(*group, key.as_str())).copied().unwrap_or(false);
        finding.expect(explained && why, || format!("{key}: parked in group {group}"));
    }
    let parked: HashSet<_> = messaging.parked.iter().map(|row| (row.group, row.id)).collect();
    let dropped = dealt(messaging, &["dropped"]);
    for event in &messaging.consumed {
        let holds = match event.status.as_str() {
            "done" => true,
            "dropped" => dropped.contains(&(event.group, event.id)),
            _ => parked.contains(&(event.group, event.id)),
        };
        finding.expect(holds, || format!("{}: {} but not kept", event.id, event.status));
    }
}

fn number(group: &str) -> Option<i16> {
    GROUPS.iter().zip(1..).find(|(name, _)| **name == group).map(|(_, number)| number)
}

/// The dead letters of which the operators' trail says that they ended in one of these ways.
fn dealt(messaging: &Messaging, outcomes: &[&str]) -> HashSet<(i16, Uuid)> {
    let trail = messaging.dealt.iter();
    let ended = trail.filter(|dealt| dealt.was_dead && outcomes.contains(&dealt.outcome.as_str()));
    ended.map(|dealt| (dealt.group, dealt.id)).collect()
}

fn dealt_with(all: &Snapshot, group: &str) -> u64 {
    let ended: HashSet<(i16, Uuid)> = producers(all)
        .into_iter()
        .flat_map(|(_, messaging)| dealt(messaging, &["applied", "dropped"]))
        .filter(|(of, _)| Some(*of) == number(group))
        .collect();
    u64::try_from(ended.len()).unwrap_or(0)
}

fn dead_in_inbox(all: &Snapshot, group: &str) -> u64 {
    let number = number(group);
    let dead = producers(all)
        .into_iter()
        .flat_map(|(_, messaging)| &messaging.parked)
        .filter(|parked| Some(parked.group) == number && parked.reason.is_some());
    u64::try_from(dead.count()).unwrap_or(0)
}

pub(super) fn q7(all: &Snapshot) -> Finding {
    let mut finding = Finding::new(
        "Q7",
        "every group's inbox holds exactly the distinct events of the topics it reads",
    );
    let inboxes = [
        &all.order.messaging,
        &all.inventory.messaging,
        &all.payment.messaging,
        &all.notification.messaging,
    ];
    for (((group, subscribed), inbox), number) in
        SUBSCRIPTIONS.into_iter().zip(inboxes).zip(1_i16..)
    {
        let mut consumed: HashSet<Uuid> =
            inbox.consumed.iter().filter(|row| row.group == number).map(|row| row.id).collect();
        for id in distinct(&all.topics, subscribed) {
            finding.expect(consumed.remove(&id), || format!("{id}: never consumed by {group}"));
        }
        if subscribed.iter().any(|topic| all.topics.truncated.contains(topic)) {
            continue;
        }
        for id in consumed {
            finding.expect(false, || format!("{id}: consumed by {group} but on no topic it reads"));
        }
    }
    finding
}

fn distinct(topics: &Topics, wanted: &[Topic]) -> HashSet<Uuid> {
    let of_these = topics.records.iter().filter(|record| wanted.contains(&record.topic));
    of_these.filter_map(|record| record.id).collect()
}

pub(super) fn q8(all: &Snapshot) -> Finding {
    let mut finding = Finding::new(
        "Q8",
        "the first copies of an order's events on a topic are in the order of their versions",
    );
    let log = log_of(all);
    let mut seen = HashSet::new();
    let mut newest: HashMap<(Topic, Uuid), (i64, i32)> = HashMap::new();
    for record in &all.topics.records {
        let Some((_, event)) = record.id.and_then(|id| log.get(&id)) else { continue };
        if !seen.insert((record.topic, event.id)) {
            continue;
        }
        let (version, partition) =
            *newest.entry((record.topic, event.key)).or_insert((0, record.partition));
        finding.expect(event.version > version && record.partition == partition, || {
            format!(
                "{}: {} of {} has version {}, after {version} on partition {partition}",
                record.place(),
                event.kind,
                event.key,
                event.version
            )
        });
        newest.insert((record.topic, event.key), (event.version, record.partition));
    }
    finding
}

pub(super) fn q9(all: &Snapshot) -> Finding {
    let mut finding = Finding::new(
        "Q9",
        "every committed event is on its topic and in its order's timeline, every transition has its event",
    );
    let published: HashSet<Uuid> = all.topics.records.iter().filter_map(|row| row.id).collect();
    for (topic, messaging) in producers(all) {
        for event in &messaging.logged {
            let there = published.contains(&event.id) || all.topics.truncated.contains(&topic);
            finding.expect(there, || format!("{} {}: never published", event.kind, event.id));
            let told = all.order.timeline.contains(&(event.key, event.id));
            finding.expect(told, || {
                format!("{} {}: not in the timeline of {}", event.kind, event.id, event.key)
            });
        }
    }
    transitions(all, &mut finding);
    finding
}

/// Every transition that others must hear of has exactly one event with its version, as far back as
/// the log goes.
fn transitions(all: &Snapshot, finding: &mut Finding) {
    let mut logged: HashMap<(Uuid, i64), Vec<&str>> = HashMap::new();
    for event in &all.order.messaging.logged {
        logged.entry((event.key, event.version)).or_default().push(&event.kind);
    }
    for step in &all.order.transitions {
        let events = logged.remove(&(step.order, step.version)).unwrap_or_default();
        let expected: &[&str] = match step.state.as_str() {
            "PENDING" => &["portolan.order.placed.v1"],
            "CONFIRMED" => &["portolan.order.confirmed.v1"],
            "CANCELLED" => &["portolan.order.cancelled.v1"],
            "COMPLETED" => &["portolan.order.completed.v1"],
            _ => &[],
        };
        let gone = !step.logged && events.is_empty();
        finding.expect(gone || events == expected, || {
            let (order, version) = (step.order, step.version);
            format!("{order}: became {} at version {version}, with events {events:?}", step.state)
        });
    }
    for ((order, version), events) in logged {
        finding.expect(false, || format!("{order}: {events:?} for no transition to {version}"));
    }
}
