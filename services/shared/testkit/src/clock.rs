use std::sync::{Arc, Mutex, PoisonError};

use portolan_kernel::Clock;
use time::{Duration, OffsetDateTime, macros::datetime};

/// A clock that stands still until it is told otherwise. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<Mutex<OffsetDateTime>>,
}

impl Default for ManualClock {
    /// Noon of some day.
    fn default() -> Self {
        Self::new(datetime!(2026-01-15 12:00 UTC))
    }
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: OffsetDateTime) -> Self {
        Self { now: Arc::new(Mutex::new(now)) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// Jumps to a time, which may be in the past.
    pub fn set(&self, now: OffsetDateTime) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_only_when_told_and_for_all_clones() {
        let clock = ManualClock::default();
        let (start, other) = (clock.now(), clock.clone());
        assert_eq!(clock.now(), start);
        clock.advance(Duration::SECOND);
        assert_eq!(other.now(), start + Duration::SECOND);
    }
}
