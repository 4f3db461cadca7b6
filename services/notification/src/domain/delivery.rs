use std::time::Duration;

/// What became of one attempt to hand a message over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The mail server took responsibility for it (RFC 5321, section 4.2.1: 2yz).
    Accepted,
    /// Not now (4yz), or nobody knows: no connection, no answer.
    Temporary(String),
    /// Never (5yz).
    Permanent(String),
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the customer was told.
    Sent,
    /// Another attempt after this time.
    Retry(Duration),
    /// Nothing: the customer cannot be told.
    Failed,
}

/// How to try again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The pause after the first attempt; it doubles with every further one.
    pub base: Duration,
    /// The longest pause.
    pub cap: Duration,
    /// When to give up, counted from the order's end. RFC 5321 (section 4.5.4.1) asks for four to
    /// five days.
    pub give_up: Duration,
}

impl RetryPolicy {
    /// The pause after an attempt, counted from 1: between half and all of the doubled base, so
    /// that messages refused together do not come back together. `entropy` is any random number.
    pub fn pause(&self, attempt: u32, entropy: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        let half = full / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(entropy % (spread + 1))
    }
}

/// What to do after an attempt (counted from 1) at a message of this age.
pub fn next(
    verdict: &Verdict,
    attempt: u32,
    age: Duration,
    policy: &RetryPolicy,
    entropy: u64,
) -> Next {
    match verdict {
        Verdict::Accepted => Next::Sent,
        Verdict::Permanent(_) => Next::Failed,
        Verdict::Temporary(_) if age >= policy.give_up => Next::Failed,
        Verdict::Temporary(_) => Next::Retry(policy.pause(attempt, entropy)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        base: Duration::from_millis(500),
        cap: Duration::from_mins(1),
        give_up: Duration::from_hours(1),
    };

    #[test]
    fn only_temporary_failures_are_tried_again_and_not_for_ever() {
        let young = Duration::from_secs(1);
        let after = |verdict, age| next(&verdict, 1, age, &POLICY, 0);
        assert_eq!(after(Verdict::Accepted, young), Next::Sent);
        assert_eq!(after(Verdict::Permanent("550".to_owned()), young), Next::Failed);
        let busy = || Verdict::Temporary("451".to_owned());
        assert_eq!(after(busy(), young), Next::Retry(Duration::from_millis(250)));
        assert_eq!(after(busy(), POLICY.give_up), Next::Failed);
    }

    proptest! {
        #[test]
        fn pauses_grow_up_to_the_cap(attempt in 1_u32..200, entropy in any::<u64>()) {
            let pause = POLICY.pause(attempt, entropy);
            let doubled = POLICY.base.saturating_mul(1 << (attempt - 1).min(31));
            prop_assert!(pause <= POLICY.cap);
            prop_assert!(pause >= doubled.min(POLICY.cap) / 2);
            prop_assert!(pause <= doubled);
        }

        #[test]
        fn any_policy_is_safe_to_evaluate(
            base in any::<u64>(), cap in any::<u64>(), attempt in any::<u32>(), entropy in any::<u64>(),
        ) {
            let policy = RetryPolicy {
                base: Duration::from_millis(base),
                cap: Duration::from_millis(cap),
                give_up: Duration::ZERO,
            };
            prop_assert!(policy.pause(attempt, entropy) <= policy.cap);
        }
    }
}
