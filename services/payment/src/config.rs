//! What can be configured.

use std::time::Duration;

use portolan_messaging::KafkaConfig;
use portolan_runtime::{DatabaseConfig, Invalid, ServerConfig, TelemetryConfig, Validate};
use serde::Deserialize;

use crate::domain::Backoff;

/// The configuration of `portolan-payment`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its own database.
    pub database: DatabaseConfig,
    /// The event topics.
    pub kafka: KafkaConfig,
    /// The payment provider.
    pub psp: ProviderConfig,
}

/// `[psp]`: how to talk to the payment provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its base URL, for instance `http://127.0.0.1:8445`.
    pub url: String,
    /// How long to wait for an answer, in milliseconds. After that the outcome is unknown.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// How many calls may be under way at once.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// The longest wait after the first unknown outcome, in milliseconds; it doubles.
    #[serde(default = "default_retry_base_ms")]
    pub retry_base_ms: u64,
    /// The longest wait of all, in milliseconds.
    #[serde(default = "default_retry_cap_ms")]
    pub retry_cap_ms: u64,
}

const fn default_timeout_ms() -> u64 {
    2_000
}

const fn default_concurrency() -> usize {
    32
}

const fn default_retry_base_ms() -> u64 {
    200
}

const fn default_retry_cap_ms() -> u64 {
    5_000
}

impl ProviderConfig {
    /// The defaults for a provider's URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            timeout_ms: default_timeout_ms(),
            concurrency: default_concurrency(),
            retry_base_ms: default_retry_base_ms(),
            retry_cap_ms: default_retry_cap_ms(),
        }
    }

    /// How long to wait for an answer.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long one worker has a job for itself: the longest call, and time to write the answer
    /// down. A worker that takes longer harms nothing; the call is merely made twice.
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(2 * self.timeout_ms + 3_000)
    }

    /// How long to wait after an unknown outcome.
    pub const fn backoff(&self) -> Backoff {
        Backoff {
            base: Duration::from_millis(self.retry_base_ms),
            cap: Duration::from_millis(self.retry_cap_ms),
        }
    }
}

impl Validate for ProviderConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let url = reqwest::Url::parse(&self.url);
        let http = url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        Invalid::unless(http, "psp.url", "is not an http:// or https:// URL")?;
        Invalid::unless(
            (1..=60_000).contains(&self.timeout_ms),
            "psp.timeout_ms",
            "must be between 1 and 60000",
        )?;
        Invalid::unless(
            (1..=1_000).contains(&self.concurrency),
            "psp.concurrency",
            "must be between 1 and 1000",
        )?;
        Invalid::unless(self.retry_base_ms > 0, "psp.retry_base_ms", "must be at least 1")?;
        Invalid::unless(
            self.retry_cap_ms >= self.retry_base_ms,
            "psp.retry_cap_ms",
            "must not be less than psp.retry_base_ms",
        )
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.database.validate()?;
        self.kafka.validate()?;
        self.psp.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_work_is_named() {
        let good = ProviderConfig::new("http://127.0.0.1:8445");
        assert!(good.validate().is_ok());
        let bad = [
            (ProviderConfig { url: "127.0.0.1:8445".to_owned(), ..good.clone() }, "psp.url"),
            (ProviderConfig { timeout_ms: 0, ..good.clone() }, "psp.timeout_ms"),
            (ProviderConfig { concurrency: 0, ..good.clone() }, "psp.concurrency"),
            (ProviderConfig { retry_base_ms: 0, ..good.clone() }, "psp.retry_base_ms"),
            (ProviderConfig { retry_cap_ms: 1, ..good }, "psp.retry_cap_ms"),
        ];
        for (config, key) in bad {
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
