use std::{fmt, hash::Hash, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::StateInformationMiddleware,
    state::keyed::HashMapStateStore,
};
use tokio::time::Instant;

use super::Rate;

/// A budget with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    pub(crate) rate: Rate,
}

/// What a budget says to one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted {
        /// How many more could come at once.
        remaining: u32,
    },
    Refused {
        /// When the next one may come.
        wait: Duration,
    },
}

/// The same budget for each of many, counted in this process by the generic cell rate algorithm
/// (ITU-T I.371).
pub(crate) struct Bucket<K: Hash + Eq + Clone> {
    policy: Policy,
    clock: Uptime,
    limiter: RateLimiter<K, HashMapStateStore<K>, Uptime, StateInformationMiddleware>,
}

/// Time since the process began to count, by the runtime's clock, which tests can stop.
#[derive(Clone, Copy)]
struct Uptime(Instant);

impl Clock for Uptime {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl<K: Hash + Eq + Clone> Bucket<K> {
    /// Everybody begins with the whole budget.
    pub(crate) fn new(policy: Policy) -> Self {
        let most = NonZeroU32::new(policy.rate.requests).unwrap_or(NonZeroU32::MIN);
        let evenly = Quota::with_period(policy.rate.step()).unwrap_or(Quota::per_second(most));
        let clock = Uptime(Instant::now());
        let limiter =
            RateLimiter::new(evenly.allow_burst(most), HashMapStateStore::default(), clock);
        Self { policy, clock, limiter }
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// Takes one from `key`'s budget, if there is one.
    pub(crate) fn take(&self, key: &K) -> Verdict {
        match self.limiter.check_key(key) {
            Ok(state) => Verdict::Admitted { remaining: state.remaining_burst_capacity() },
            Err(until) => Verdict::Refused { wait: until.wait_time_from(self.clock.now()) },
        }
    }

    /// Forgets those who have the whole budget.
    pub(crate) fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for Bucket<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("policy", &self.policy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(requests: u32, per_secs: u32) -> Bucket<&'static str> {
        Bucket::new(Policy { name: "test", rate: Rate { requests, per_secs } })
    }

    const fn left(remaining: u32) -> Verdict {
        Verdict::Admitted { remaining }
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_used_up_and_comes_back_evenly() {
        let bucket = bucket(3, 30);
        for remaining in [2, 1, 0] {
            assert_eq!(bucket.take(&"alice"), left(remaining));
        }
        let wait = Duration::from_secs(10);
        assert_eq!(bucket.take(&"alice"), Verdict::Refused { wait });
        tokio::time::advance(wait / 2).await;
        assert_eq!(bucket.take(&"alice"), Verdict::Refused { wait: wait / 2 });
        tokio::time::advance(wait / 2).await;
        assert_eq!(bucket.take(&"alice"), left(0));
        tokio::time::advance(wait * 100).await;
        assert_eq!(bucket.take(&"alice"), left(2), "never more than the budget");
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_used_theirs_up_leaves_the_others_theirs() {
        let bucket = bucket(1, 60);
        assert_eq!(bucket.take(&"mallory"), left(0));
        assert!(matches!(bucket.take(&"mallory"), Verdict::Refused { .. }));
        assert_eq!(bucket.take(&"alice"), left(0));
    }

    #[tokio::test(start_paused = true)]
    async fn only_those_are_forgotten_who_have_everything() {
        let bucket = bucket(2, 20);
        bucket.take(&"alice");
        tokio::time::advance(Duration::from_secs(25)).await;
        bucket.take(&"bob");
        bucket.take(&"bob");
        bucket.sweep();
        assert_eq!(bucket.limiter.len(), 1);
        assert!(matches!(bucket.take(&"bob"), Verdict::Refused { .. }));
    }
}
