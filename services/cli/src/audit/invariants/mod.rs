//! The invariants, each a pure function of what was read.

mod events;
mod money;
mod orders;
mod outcome;
mod stock;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{report::Finding, requests::Attempt, sources::Snapshot};

/// What else the invariants depend on.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// How many open orders a customer may have; 0 for any number.
    pub(super) open_order_limit: i64,
    /// Whether dead letters with a reason are accepted.
    pub(super) explained_dead_letters: bool,
    /// Records that no service wrote: whoever asks for the audit put them there.
    pub(super) planted: HashSet<Uuid>,
    /// What the clients say they asked for.
    pub(super) attempts: Option<Vec<Attempt>>,
    /// What the keys of all these attempts, and of no others, begin with.
    pub(super) attempts_prefix: String,
    /// Every customer's fence when the audit began.
    pub(super) fences: HashMap<String, i64>,
}

/// What holds at any time.
pub(super) fn at_any_time(all: &Snapshot, rules: &Rules) -> Vec<Finding> {
    let stock = &all.inventory.stock;
    vec![
        stock::i1(stock),
        stock::i2(stock),
        stock::i3(stock),
        outcome::i4(all),
        orders::i5(&all.order),
        orders::i6(&all.order),
        money::i7(all.provider.as_ref(), &outcome::by_id(&all.order.orders)),
        orders::i8(&all.order, rules.open_order_limit),
        orders::i9(&all.order, &rules.fences),
        events::i10(all, &rules.planted),
    ]
}

/// What holds when nothing is under way.
pub(super) fn at_rest(all: &Snapshot, rules: &Rules) -> Vec<Finding> {
    vec![
        orders::q1(&all.order, rules.attempts.as_deref(), &rules.attempts_prefix),
        orders::q2(&all.order),
        outcome::q3(all),
        outcome::q4(all),
        stock::q5(&all.inventory.stock),
        events::q6(all, rules.explained_dead_letters),
        events::q7(all),
        events::q8(all),
        events::q9(all),
    ]
}
