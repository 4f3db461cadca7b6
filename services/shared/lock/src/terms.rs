use std::time::Duration;

/// Clocks of the masters may run differently from ours: by so much for each part of the time to
/// live, and a little more for the resolution of their expiry (Redis documentation, "Distributed
/// locks with Redis").
const DRIFT_DIVISOR: u32 = 100;
const DRIFT_LEAST: Duration = Duration::from_millis(2);

/// The arithmetic of validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
}

impl Terms {
    pub(crate) const fn new(ttl: Duration) -> Self {
        Self { ttl }
    }

    /// How long, from the moment before the masters were asked, a lock they granted is ours.
    pub(crate) fn granted(self) -> Duration {
        self.ttl.saturating_sub(self.ttl / DRIFT_DIVISOR + DRIFT_LEAST)
    }

    /// What is left of it after `elapsed`.
    pub(crate) fn left(self, elapsed: Duration) -> Option<Duration> {
        self.granted().checked_sub(elapsed).filter(|left| !left.is_zero())
    }

    /// Whether a lock with so much left may be extended. One that is nearly over may be another's
    /// before the masters have been asked.
    pub(crate) fn may_extend(self, left: Duration) -> bool {
        left > self.ttl / 3
    }

    /// How much is left when it is time to extend: well before it is too late.
    pub(crate) fn extend_at(self) -> Duration {
        self.ttl / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_seconds_are_valid_for_a_little_less() {
        let terms = Terms::new(Duration::from_secs(3));
        assert_eq!(terms.left(Duration::ZERO), Some(Duration::from_millis(2_968)));
        assert_eq!(terms.left(Duration::from_millis(2_967)), Some(Duration::from_millis(1)));
        assert_eq!(terms.left(Duration::from_millis(2_968)), None);
    }

    proptest! {
        #[test]
        fn validity_never_outlives_the_masters_even_with_clocks_one_percent_apart(
            ttl_us in 0_u64..7_200_000_000,
            elapsed_us in 0_u64..10_000_000_000,
        ) {
            let (ttl, elapsed) = (Duration::from_micros(ttl_us), Duration::from_micros(elapsed_us));
            if let Some(left) = Terms::new(ttl).left(elapsed) {
                // A master whose clock is one percent fast ends the lock after 0.99 of its time.
                let earliest = ttl.saturating_sub(ttl / 100);
                prop_assert!(elapsed + left + DRIFT_LEAST <= earliest);
                prop_assert!(!left.is_zero());
            }
        }

        #[test]
        fn less_time_used_never_leaves_less(
            ttl_ms in 1_u64..3_600_000, first in 0_u64..4_000_000, more in 0_u64..4_000_000,
        ) {
            let terms = Terms::new(Duration::from_millis(ttl_ms));
            let left = |ms| terms.left(Duration::from_millis(ms)).unwrap_or_default();
            prop_assert!(left(first) >= left(first + more));
        }

        #[test]
        fn what_is_extended_in_time_is_valid_without_a_gap(ttl_ms in 100_u64..3_600_000) {
            let terms = Terms::new(Duration::from_millis(ttl_ms));
            prop_assert!(terms.may_extend(terms.extend_at()));
            prop_assert!(!terms.may_extend(Duration::ZERO));
            prop_assert!(terms.extend_at() < terms.granted());
        }
    }
}
