//! The beginning and the end of an outage are worth a line each, what is in between is not.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long nothing may have failed before an outage is over: what answers now and then is nothing
/// to rely on.
const SETTLED: Duration = Duration::from_secs(10);

/// Since when nobody could be reached, if so.
#[derive(Debug, Default)]
pub struct Outage {
    /// The last failure, until it is long ago.
    last: Mutex<Option<Instant>>,
}

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This failure is the first.
    Begun,
    /// It has gone well for long enough.
    Over,
}

impl Outage {
    /// Whether something failed within so long. Who need not ask may leave it until it has not.
    pub fn is_fresh(&self, within: Duration) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < within)
    }

    /// Takes note of how it went.
    pub fn note(&self, failed: bool) -> Option<Turn> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if failed {
            return last.replace(Instant::now()).is_none().then_some(Turn::Begun);
        }
        last.take_if(|at| at.elapsed() >= SETTLED).map(|_| Turn::Over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_however_it_flickers_and_its_end_when_it_has_settled() {
        let outage = Outage::default();
        assert_eq!(outage.note(false), None);
        assert_eq!(outage.note(true), Some(Turn::Begun));
        for failed in [true, false, true, false] {
            tokio::time::advance(SETTLED / 2).await;
            assert_eq!(outage.note(failed), None);
        }
        tokio::time::advance(SETTLED / 2).await;
        assert_eq!(outage.note(false), Some(Turn::Over));
        assert_eq!(outage.note(false), None);
        assert_eq!(outage.note(true), Some(Turn::Begun));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_fresh_for_a_while() {
        let (outage, lately) = (Outage::default(), Duration::from_millis(500));
        assert!(!outage.is_fresh(lately));
        outage.note(true);
        assert!(outage.is_fresh(lately));
        outage.note(false);
        assert!(outage.is_fresh(lately), "one answer does not undo it");
        tokio::time::advance(lately).await;
        assert!(!outage.is_fresh(lately));
    }
}
