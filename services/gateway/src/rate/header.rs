//! The header fields that tell a client how it stands. Nothing else writes them.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::bucket::{Policy, Verdict};

/// Whose fields they are. Still a draft: this is the only place that names it.
pub(crate) const DRAFT: &str = "draft-ietf-httpapi-ratelimit-headers-11";

/// The policies that counted the request, each a string with its quota `q` in the window `w` of
/// seconds.
pub(crate) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What each of them has left: `r` requests, and no more than that within `t` seconds.
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// How one policy stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    policy: Policy,
    remaining: u32,
    /// Until there is one more.
    pub(super) seconds: u32,
}

impl Standing {
    /// `dice` spreads those who were refused at the same moment: up to a tenth of the time and a
    /// second more, so that they do not all come back at once.
    pub(super) fn new(policy: Policy, verdict: Verdict, dice: u8) -> Self {
        match verdict {
            Verdict::Admitted { remaining } => {
                Self { policy, remaining, seconds: rounded_up(policy.rate.step()) }
            }
            Verdict::Refused { wait } => {
                let wait = rounded_up(wait);
                let spread = u32::from(dice) % (wait / 10 + 2);
                Self { policy, remaining: 0, seconds: wait.saturating_add(spread) }
            }
        }
    }
}

fn rounded_up(time: Duration) -> u32 {
    let whole = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let more = u32::from(time.subsec_nanos() > 0);
    whole.saturating_add(more).max(1)
}

/// Writes both fields, as structured fields (RFC 9651), if anything was counted.
pub(super) fn write(headers: &mut HeaderMap, standings: &[Standing]) {
    let policy = |standing: &Standing| {
        let Policy { name, rate } = standing.policy;
        format!("\"{name}\";q={};w={}", rate.requests, rate.per_secs)
    };
    let limit = |standing: &Standing| {
        let Standing { policy, remaining, seconds } = standing;
        format!("\"{}\";r={remaining};t={seconds}", policy.name)
    };
    set(headers, POLICY, &standings.iter().map(policy).collect::<Vec<_>>());
    set(headers, LIMIT, &standings.iter().map(limit).collect::<Vec<_>>());
}

fn set(headers: &mut HeaderMap, name: HeaderName, items: &[String]) {
    if let (false, Ok(value)) = (items.is_empty(), HeaderValue::from_str(&items.join(", "))) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rate::Rate;

    const MINUTE: Policy = Policy { name: "read", rate: Rate::per_minute(60) };

    fn refused(wait_ms: u64, dice: u8) -> u32 {
        let wait = Duration::from_millis(wait_ms);
        Standing::new(MINUTE, Verdict::Refused { wait }, dice).seconds
    }

    #[test]
    fn one_item_for_each_policy_in_both_fields() {
        let daily = Policy { name: "read-quota", rate: Rate { requests: 9, per_secs: 86_400 } };
        let mut headers = HeaderMap::new();
        let admitted = |remaining| Verdict::Admitted { remaining };
        let standings = [
            Standing::new(MINUTE, admitted(59), 0),
            Standing::new(daily, Verdict::Refused { wait: Duration::from_millis(1_200) }, 0),
        ];
        write(&mut headers, &standings);
        assert_eq!(headers[POLICY], r#""read";q=60;w=60, "read-quota";q=9;w=86400"#);
        assert_eq!(headers[LIMIT], r#""read";r=59;t=1, "read-quota";r=0;t=2"#);
    }

    #[test]
    fn what_was_not_counted_has_no_fields() {
        let mut headers = HeaderMap::new();
        write(&mut headers, &[]);
        assert!(headers.is_empty());
    }

    #[test]
    fn seconds_are_whole_and_never_none() {
        assert_eq!((refused(0, 0), refused(1, 0), refused(1_000, 0)), (1, 1, 1));
        assert_eq!(refused(1_001, 0), 2);
        assert_eq!(rounded_up(Duration::MAX), u32::MAX);
    }

    proptest! {
        #[test]
        fn nobody_is_told_to_come_back_too_early_or_much_too_late(
            wait_ms in 0_u64..90_000_000, dice in any::<u8>(),
        ) {
            let told = u64::from(refused(wait_ms, dice));
            prop_assert!(told * 1_000 >= wait_ms);
            prop_assert!(told * 1_000 <= wait_ms + wait_ms / 10 + 2_100);
        }
    }
}
