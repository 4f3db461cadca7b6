use std::time::Duration;

use portolan_kernel::OrderId;

/// How long to wait before asking the provider again: doubling, capped, and spread over the upper
/// half of the interval ("equal jitter"), so that the jobs of one outage do not come back at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The longest wait after the first attempt.
    pub base: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after the given attempt (the first is 1). The spread comes from the order's random
    /// id, so that the same job waits the same time in every run.
    pub fn delay(&self, order: OrderId, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let shortest = longest / 2;
        let spread = mix(order.0.as_u64_pair().1 ^ u64::from(attempt)) % (longest - shortest + 1);
        Duration::from_millis(shortest + spread)
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const BACKOFF: Backoff =
        Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };

    #[test]
    fn jobs_of_one_outage_do_not_come_back_together() {
        let delays: std::collections::HashSet<Duration> =
            (1..100).map(|n| BACKOFF.delay(OrderId(Uuid::from_u128(n)), 6)).collect();
        assert!(delays.len() > 80, "{}", delays.len());
    }

    proptest! {
        #[test]
        fn a_wait_doubles_up_to_the_cap(id in any::<u128>(), attempt in 1_u32..) {
            let delay = BACKOFF.delay(OrderId(Uuid::from_u128(id)), attempt);
            let full = Duration::from_millis(200 * (1 << (attempt - 1).min(10))).min(BACKOFF.cap);
            prop_assert!(delay >= full / 2 && delay <= full, "{delay:?}");
        }
    }
}
