//! Counts what the requests of a run met.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

/// How often something happened, by reason.
pub(super) type Reasons = BTreeMap<String, u64>;

/// What all requests of a run met, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Requests to place an order, repetitions included.
    pub(super) placing: u64,
    /// Those that were an order's first and were not accepted, by reason.
    pub(super) first_attempts_failed: Reasons,
    /// All that were not accepted, by reason.
    pub(super) attempts_failed: Reasons,
    /// Requests for an order's state.
    pub(super) looking: u64,
    /// Those that were not answered, by reason.
    pub(super) looks_failed: Reasons,
}

impl Counts {
    /// Whatever had to be asked again, by reason.
    pub(super) fn failed(&self) -> Reasons {
        let mut all = self.attempts_failed.clone();
        for (why, count) in &self.looks_failed {
            *all.entry(why.clone()).or_default() += count;
        }
        all
    }
}

/// [`Counts`] that many tasks add to.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

impl Tally {
    /// An attempt to place an order, counted from 0, and why it was not accepted.
    pub(super) fn placing(&self, attempt: usize, failed: Option<&str>) {
        let mut counts = self.lock();
        counts.placing += 1;
        let Some(why) = failed else { return };
        add(&mut counts.attempts_failed, why);
        if attempt == 0 {
            add(&mut counts.first_attempts_failed, why);
        }
    }

    /// A look at an order, and why there was no answer.
    pub(super) fn looking(&self, failed: Option<&str>) {
        let mut counts = self.lock();
        counts.looking += 1;
        if let Some(why) = failed {
            add(&mut counts.looks_failed, why);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(reasons: &mut Reasons, why: &str) {
    *reasons.entry(why.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_attempt_that_fails_is_counted_apart_from_its_repetitions() {
        let tally = Tally::default();
        tally.placing(0, Some("503"));
        tally.placing(1, Some("503"));
        tally.placing(2, None);
        tally.placing(0, None);
        tally.looking(Some("503"));
        let counts = tally.counts();
        assert_eq!((counts.placing, counts.looking), (4, 1));
        assert_eq!(counts.first_attempts_failed["503"], 1);
        assert_eq!(counts.attempts_failed["503"], 2);
        assert_eq!(counts.failed()["503"], 3);
    }
}
