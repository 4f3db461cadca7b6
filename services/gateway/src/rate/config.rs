use std::time::Duration;

use portolan_runtime::{Validate, config::Invalid};
use serde::Deserialize;

/// More than this cannot be told apart by clocks that count microseconds.
const MOST_PER_SECOND: u32 = 10_000;
const DAY_SECS: u32 = 86_400;

/// A budget: so many requests at once at most, and as many again, evenly, in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many requests.
    pub requests: u32,
    /// In how many seconds.
    #[serde(default = "minute")]
    pub per_secs: u32,
}

const fn minute() -> u32 {
    60
}

impl Rate {
    /// So many requests a minute.
    pub const fn per_minute(requests: u32) -> Self {
        Self { requests, per_secs: minute() }
    }

    /// How long it takes until there is one more: whole microseconds, rounded down.
    pub(crate) fn step(self) -> Duration {
        let micros = u64::from(self.per_secs) * 1_000_000 / u64::from(self.requests.max(1));
        Duration::from_micros(micros)
    }

    /// # Errors
    /// The key below `key` that is out of range.
    pub(crate) fn check(self, key: &str) -> Result<(), Invalid> {
        let invalid = |name: &str, problem: &str| Invalid::new(format!("{key}.{name}"), problem);
        if !(1..=DAY_SECS).contains(&self.per_secs) {
            return Err(invalid("per_secs", "must be 1 to 86400"));
        }
        if self.requests == 0 {
            return Err(invalid("requests", "must be at least 1"));
        }
        if self.requests > self.per_secs.saturating_mul(MOST_PER_SECOND) {
            return Err(invalid("requests", "must be at most 10000 for each second"));
        }
        Ok(())
    }
}

/// `[rates]`: how often somebody may ask this process.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatesConfig {
    /// How many proxies of ours every request comes through, each of which adds the address that it
    /// was called from to `X-Forwarded-For`. With 0 that header counts for nothing.
    pub trusted_proxies: usize,
    /// What needs no token, for each client address.
    pub anonymous: Rate,
    /// Attempts to log in, for each client address.
    pub token: Rate,
    /// What only reads, for each subject.
    pub read: Rate,
    /// What changes something, for each subject.
    pub write: Rate,
}

impl Default for RatesConfig {
    fn default() -> Self {
        Self {
            trusted_proxies: 0,
            anonymous: Rate::per_minute(30_000),
            token: Rate::per_minute(60),
            read: Rate::per_minute(3_000),
            write: Rate::per_minute(3_000),
        }
    }
}

impl Validate for RatesConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let few = self.trusted_proxies <= 10;
        Invalid::unless(few, "rates.trusted_proxies", "must be at most 10")?;
        self.anonymous.check("rates.anonymous")?;
        self.token.check("rates.token")?;
        self.read.check("rates.read")?;
        self.write.check("rates.write")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut RatesConfig)) -> String {
        let mut config = RatesConfig::default();
        change(&mut config);
        config.validate().map_or_else(|error| error.key, |()| String::new())
    }

    #[test]
    fn a_rate_out_of_range_is_named_by_its_key() {
        assert_eq!(fault(|_| ()), "");
        assert_eq!(fault(|rates| rates.trusted_proxies = 11), "rates.trusted_proxies");
        assert_eq!(fault(|rates| rates.anonymous.requests = 0), "rates.anonymous.requests");
        assert_eq!(fault(|rates| rates.token.per_secs = 0), "rates.token.per_secs");
        assert_eq!(fault(|rates| rates.read.per_secs = 86_401), "rates.read.per_secs");
        let fast = Rate { requests: 10_001, per_secs: 1 };
        assert_eq!(fault(|rates| rates.write = fast), "rates.write.requests");
        assert_eq!(fault(|rates| rates.write = Rate { requests: 10_000, per_secs: 1 }), "");
    }

    #[test]
    fn a_budget_comes_back_evenly() {
        assert_eq!(Rate::per_minute(60).step(), Duration::from_secs(1));
        assert_eq!(Rate { requests: 3, per_secs: 1 }.step(), Duration::from_micros(333_333));
    }
}
