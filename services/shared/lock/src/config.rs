use std::{collections::HashSet, path::PathBuf, time::Duration};

use portolan_runtime::{Validate, config::Invalid};
use portolan_valkey::is_address;
use serde::Deserialize;

use crate::Terms;

/// `[lock]`: the masters that a majority of grants the lock, and how long anything may take.
///
/// The masters must know nothing of each other, and one that restarts must still know its keys
/// (`appendfsync always`) or stay away for longer than `ttl_ms`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockConfig {
    /// Addresses (`host:port`) of an odd number of masters, three at least.
    pub masters: Vec<String>,
    /// A PEM file of the certificates that the masters' must come from: given, connections are
    /// encrypted and the masters' certificates and names verified. Read again when it changes.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
    /// A PEM file with our certificate, its issuer and its PKCS#8 key, shown to the masters. Read
    /// again when it changes.
    #[serde(default)]
    pub tls_identity: Option<PathBuf>,
    /// How long a lock is held unless it is extended, in milliseconds.
    #[serde(default = "default_ttl_ms")]
    pub ttl_ms: u64,
    /// How long one master may take for one answer, in milliseconds.
    #[serde(default = "default_instance_timeout_ms")]
    pub instance_timeout_ms: u64,
    /// How long an acquisition may take with all its attempts, in milliseconds.
    #[serde(default = "default_budget_ms")]
    pub budget_ms: u64,
    /// Attempts of one acquisition at most.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
}

const fn default_ttl_ms() -> u64 {
    3_000
}

const fn default_instance_timeout_ms() -> u64 {
    30
}

const fn default_budget_ms() -> u64 {
    150
}

const fn default_attempts() -> u32 {
    3
}

impl LockConfig {
    /// The defaults for these masters, without TLS.
    pub fn new(masters: Vec<String>) -> Self {
        Self {
            masters,
            tls_roots: None,
            tls_identity: None,
            ttl_ms: default_ttl_ms(),
            instance_timeout_ms: default_instance_timeout_ms(),
            budget_ms: default_budget_ms(),
            attempts: default_attempts(),
        }
    }

    pub(crate) const fn terms(&self) -> Terms {
        Terms::new(Duration::from_millis(self.ttl_ms))
    }

    pub(crate) const fn instance_timeout(&self) -> Duration {
        Duration::from_millis(self.instance_timeout_ms)
    }

    pub(crate) const fn budget(&self) -> Duration {
        Duration::from_millis(self.budget_ms)
    }
}

impl Validate for LockConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let masters = &self.masters;
        Invalid::unless(
            masters.len() >= 3 && masters.len() % 2 == 1,
            "lock.masters",
            "must be an odd number of addresses, three at least",
        )?;
        // One that votes twice would be a majority of fewer masters.
        let distinct: HashSet<&String> = masters.iter().collect();
        Invalid::unless(distinct.len() == masters.len(), "lock.masters", "must be different")?;
        Invalid::unless(
            masters.iter().all(|master| is_address(master)),
            "lock.masters",
            "must be host:port each",
        )?;
        Invalid::unless(
            self.tls_identity.is_none() || self.tls_roots.is_some(),
            "lock.tls_identity",
            "needs lock.tls_roots",
        )?;
        let (timeout, ttl) = (self.instance_timeout_ms, self.ttl_ms);
        Invalid::unless(timeout > 0, "lock.instance_timeout_ms", "must be at least 1")?;
        Invalid::unless(
            timeout <= self.budget_ms,
            "lock.budget_ms",
            "must not be less than lock.instance_timeout_ms",
        )?;
        // Asking and writing the token back take two answers, and a third must be left to use it.
        Invalid::unless(
            timeout.checked_mul(3).is_some_and(|three| three < ttl) && ttl <= MAX_TTL_MS,
            "lock.ttl_ms",
            "must be more than three times lock.instance_timeout_ms and an hour at most",
        )?;
        Invalid::unless(self.attempts > 0, "lock.attempts", "must be at least 1")
    }
}

const MAX_TTL_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(addresses: &[&str]) -> LockConfig {
        LockConfig::new(addresses.iter().map(|&address| address.to_owned()).collect())
    }

    fn fault(config: &LockConfig) -> String {
        config.validate().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn masters_are_an_odd_number_of_different_addresses() {
        assert_eq!(fault(&masters(&["a:1", "b:1", "[::1]:1"])), "");
        for bad in [
            &[][..],
            &["a:1"],
            &["a:1", "b:1"],
            &["a:1", "b:1", "c:1", "d:1"],
            &["a:1", "b:1", "a:1"],
            &["a:1", "b:1", "c"],
            &["a:1", "b:1", ":1"],
            &["a:1", "b:1", "c:0"],
            &["a:1", "b:1", "c:port"],
        ] {
            assert!(fault(&masters(bad)).starts_with("lock.masters: "), "{bad:?}");
        }
    }

    #[test]
    fn times_must_leave_room_for_each_other() {
        let with = |change: fn(&mut LockConfig)| {
            let mut config = masters(&["a:1", "b:1", "c:1"]);
            change(&mut config);
            fault(&config)
        };
        assert!(with(|config| config.instance_timeout_ms = 0).contains("instance_timeout_ms"));
        assert!(with(|config| config.budget_ms = 29).contains("budget_ms"));
        assert!(with(|config| config.ttl_ms = 90).contains("ttl_ms"));
        assert!(with(|config| config.ttl_ms = u64::MAX).contains("ttl_ms"));
        assert!(with(|config| config.attempts = 0).contains("attempts"));
        assert!(with(|config| config.tls_identity = Some("a.pem".into())).contains("tls_roots"));
    }
}
