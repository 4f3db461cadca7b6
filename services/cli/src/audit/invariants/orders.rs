//! The order service's own tables, and what the clients saw of them: I5, I6, I8, I9, Q1 and Q2.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::super::{
    order::{Order, OrderDb},
    report::Finding,
    requests::Attempt,
};

/// Whether the table of the state machine has this transition.
fn allowed(from: Option<&str>, to: &str, reason: Option<&str>) -> bool {
    match (from, to) {
        (None, "PENDING")
        | (Some("PENDING"), "AWAITING_PAYMENT" | "CONFIRMED" | "CANCELLED")
        | (Some("AWAITING_PAYMENT"), "CONFIRMED" | "CANCELLED")
        | (Some("CONFIRMED"), "COMPLETED") => true,
        (Some("CONFIRMED"), "CANCELLED") => reason == Some("CAPTURE_FAILED"),
        _ => false,
    }
}

pub(super) fn i5(db: &OrderDb) -> Finding {
    let mut finding = Finding::new(
        "I5",
        "every order's versions run from 1 without gaps, by transitions of the state machine",
    );
    let mut history: HashMap<Uuid, Vec<_>> = HashMap::new();
    for transition in &db.transitions {
        history.entry(transition.order).or_default().push(transition);
    }
    for order in &db.orders {
        let steps = history.remove(&order.id).unwrap_or_default();
        let mut state = None;
        for (step, version) in steps.iter().zip(1..) {
            let holds =
                step.version == version && allowed(state, &step.state, order.reason.as_deref());
            finding.expect(holds, || {
                let from = state.unwrap_or("nothing");
                format!("{}: version {} goes from {from} to {}", order.id, step.version, step.state)
            });
            state = Some(step.state.as_str());
        }
        let holds =
            state == Some(order.state.as_str()) && i64::try_from(steps.len()) == Ok(order.version);
        finding.expect(holds, || {
            format!(
                "{}: is {} at version {}, its history ends with {} at {}",
                order.id,
                order.state,
                order.version,
                state.unwrap_or("nothing"),
                steps.len()
            )
        });
    }
    for order in history.keys() {
        finding.expect(false, || format!("{order}: has a history but no order"));
    }
    finding
}

pub(super) fn i6(db: &OrderDb) -> Finding {
    let mut finding = Finding::new(
        "I6",
        "a customer's idempotency key has one order, and its stored answer is about that order",
    );
    let mut seen = HashSet::new();
    for order in &db.orders {
        finding.expect(seen.insert((&order.user, &order.key)), || {
            format!("{}: a second order of {} with key {}", order.id, order.user, order.key)
        });
    }
    let orders: HashMap<Uuid, &Order> = db.orders.iter().map(|order| (order.id, order)).collect();
    for answer in &db.answers {
        let holds = orders
            .get(&answer.order)
            .is_some_and(|order| order.user == answer.user && order.key == answer.key)
            && answer.answered == Some(answer.order);
        finding.expect(holds, || {
            format!(
                "{}: the answer kept for {} and key {} is about no such order",
                answer.order, answer.user, answer.key
            )
        });
    }
    finding
}

/// What a customer's orders add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    open: i64,
    placed: i64,
    completed: i64,
    cancelled: i64,
}

pub(super) fn i8(db: &OrderDb, limit: i64) -> Finding {
    let mut finding = Finding::new(
        "I8",
        "every customer's counts of orders and money spent are right, open orders within the limit",
    );
    spent(db, &mut finding);
    let mut sums: HashMap<&str, Sums> = HashMap::new();
    for order in &db.orders {
        let sum = sums.entry(&order.user).or_default();
        sum.placed += 1;
        match order.state.as_str() {
            "COMPLETED" => sum.completed += 1,
            "CANCELLED" => sum.cancelled += 1,
            _ => sum.open += 1,
        }
    }
    for guard in &db.guards {
        let counted = sums.remove(guard.user.as_str()).unwrap_or_default();
        let stored = Sums {
            open: guard.open,
            placed: guard.placed,
            completed: guard.completed,
            cancelled: guard.cancelled,
        };
        let holds = counted == stored && (limit == 0 || guard.open <= limit);
        finding.expect(holds, || {
            format!("{}: stored {stored:?}, counted {counted:?}, limit {limit}", guard.user)
        });
    }
    for user in sums.keys() {
        finding.expect(false, || format!("{user}: has orders but no statistics"));
    }
    finding
}

fn spent(db: &OrderDb, finding: &mut Finding) {
    let mut spent: HashMap<(&str, &str), i64> = HashMap::new();
    for order in db.orders.iter().filter(|order| order.state == "COMPLETED") {
        *spent.entry((&order.user, &order.currency)).or_default() += order.amount;
    }
    for ((user, currency), stored) in &db.spent {
        let counted = spent.remove(&(user.as_str(), currency.as_str())).unwrap_or(0);
        finding.expect(*stored == counted, || {
            format!("{user}: spent {stored} {currency}, completed orders make {counted}")
        });
    }
    for ((user, currency), counted) in spent {
        finding.expect(false, || format!("{user}: spent nothing, but {counted} {currency}"));
    }
}

pub(super) fn i9(db: &OrderDb, before: &HashMap<String, i64>) -> Finding {
    let mut finding = Finding::new("I9", "no customer's fence went down while the audit ran");
    let fences: HashMap<_, _> = db.guards.iter().map(|guard| (&guard.user, guard.fence)).collect();
    for (user, floor) in before {
        let fence = fences.get(user).copied();
        finding.expect(fence >= Some(*floor), || {
            let now = fence.map_or_else(|| "is gone".to_owned(), |fence| format!("is {fence}"));
            format!("{user}: fence {now}, was {floor} when the audit began")
        });
    }
    finding
}

/// `attempts` is what the clients say they asked for, if they say it: everything that has a key with
/// this prefix.
pub(super) fn q1(db: &OrderDb, attempts: Option<&[Attempt]>, prefix: &str) -> Finding {
    let mut finding = Finding::new(
        "Q1",
        "every accepted request has its order, and no order is without a request",
    );
    let orders: HashMap<(&str, &str), &Order> =
        db.orders.iter().map(|order| ((order.user.as_str(), order.key.as_str()), order)).collect();
    let Some(attempts) = attempts else {
        finding.skipped = Some("no --requests");
        return finding;
    };
    let mut asked = HashSet::new();
    for attempt in attempts {
        let slot = (attempt.user.as_str(), attempt.key.as_str());
        asked.insert(slot);
        let Some(promised) = attempt.order else { continue };
        finding.expect(orders.get(&slot).is_some_and(|order| order.id == promised), || {
            format!("{promised}: accepted for {} with key {}, but there is none", slot.0, slot.1)
        });
    }
    for (slot, order) in orders.iter().filter(|((_, key), _)| key.starts_with(prefix)) {
        finding.expect(asked.contains(slot), || {
            format!("{}: nobody asked for it (customer {}, key {})", order.id, slot.0, slot.1)
        });
    }
    finding
}

pub(super) fn q2(db: &OrderDb) -> Finding {
    let mut finding = Finding::new("Q2", "every order is completed or cancelled");
    for order in &db.orders {
        finding.expect(order.is_final(), || format!("{}: {}", order.id, order.state));
    }
    finding
}
