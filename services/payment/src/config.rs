//! What can be configured.

use std::{path::PathBuf, time::Duration};

use portolan_messaging::{KafkaConfig, ops};
use portolan_runtime::{
    Callers, DatabaseConfig, Invalid, ServerConfig, TelemetryConfig, TlsConfig, Validate, files,
};
use serde::Deserialize;

use crate::{domain::Backoff, grpc::METHODS};

/// The configuration of `portolan-payment`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its identity; with it the service port demands one of callers.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Who may call which method.
    #[serde(default)]
    pub callers: Callers,
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
    /// For an `https` URL: whose certificate to expect. By default that of the mesh's provider
    /// where there is `[tls]`, else that of a public one.
    #[serde(default)]
    pub tls: Option<ProviderTls>,
    /// A JSON file with the key to show: see [`crate::ApiKeys`]. Read again when it changes.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
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

/// Whom to take for the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderTls {
    /// The component `psp` of our mesh, by mutual TLS.
    Mesh,
    /// Whoever has a certificate for the URL's host from an authority that this system trusts; ours
    /// is not shown.
    Public,
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
            tls: None,
            api_key_file: None,
            timeout_ms: default_timeout_ms(),
            concurrency: default_concurrency(),
            retry_base_ms: default_retry_base_ms(),
            retry_cap_ms: default_retry_cap_ms(),
        }
    }

    /// Whom to take for the provider; none without TLS.
    pub fn tls(&self, in_mesh: bool) -> Option<ProviderTls> {
        let default = if in_mesh { ProviderTls::Mesh } else { ProviderTls::Public };
        self.url.starts_with("https:").then(|| self.tls.unwrap_or(default))
    }

    /// How long to wait for an answer.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long one worker has a job for itself: the longest call, its repetition with the previous
    /// key, and time to write the answer down. A worker that takes longer harms nothing; the call is merely made twice.
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
        let used = self.tls.is_none() || self.tls(false).is_some();
        Invalid::unless(used, "psp.tls", "is for an https:// URL")?;
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

impl Config {
    /// How often files are read again.
    pub(crate) fn poll(&self) -> Duration {
        self.tls.as_ref().map_or(files::POLL, TlsConfig::poll)
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.callers.check(&[METHODS.as_slice(), &ops::METHODS].concat())?;
        self.database.validate()?;
        self.kafka.validate()?;
        self.psp.validate()?;
        let mesh = self.psp.tls(self.tls.is_some()) == Some(ProviderTls::Mesh);
        Invalid::unless(!mesh || self.tls.is_some(), "psp.tls", "\"mesh\" needs the section [tls]")
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::config::from_toml;

    use super::*;

    #[test]
    fn a_value_that_cannot_work_is_named() {
        let good = ProviderConfig::new("http://127.0.0.1:8445");
        assert!(good.validate().is_ok());
        let bad = [
            (ProviderConfig { url: "127.0.0.1:8445".to_owned(), ..good.clone() }, "psp.url"),
            (ProviderConfig { tls: Some(ProviderTls::Public), ..good.clone() }, "psp.tls"),
            (ProviderConfig { timeout_ms: 0, ..good.clone() }, "psp.timeout_ms"),
            (ProviderConfig { concurrency: 0, ..good.clone() }, "psp.concurrency"),
            (ProviderConfig { retry_base_ms: 0, ..good.clone() }, "psp.retry_base_ms"),
            (ProviderConfig { retry_cap_ms: 1, ..good }, "psp.retry_cap_ms"),
        ];
        for (config, key) in bad {
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }

    #[test]
    fn a_providers_certificate_is_expected_from_where_it_comes() {
        let of = |url, tls| ProviderConfig { tls, ..ProviderConfig::new(url) };
        let (mesh, public) = (Some(ProviderTls::Mesh), Some(ProviderTls::Public));
        assert_eq!(of("http://psp", None).tls(true), None);
        assert_eq!(of("https://psp", None).tls(true), mesh);
        assert_eq!(of("https://api.example", None).tls(false), public);
        assert_eq!(of("https://api.example", public).tls(true), public);
        assert_eq!(of("https://psp", mesh).tls(false), mesh);
    }

    fn fault(section: &str) -> String {
        let text = format!(
            "[server]
             listen = '127.0.0.1:1'
             admin_listen = '127.0.0.1:2'
             [database]
             url = 'postgres://localhost/test'
             [kafka]
             brokers = 'localhost:9092'
             [psp]
             url = 'http://localhost:1'
             {section}"
        );
        from_toml::<Config>(&text).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn a_caller_of_a_method_that_does_not_exist_is_named() {
        let callers = |method: &str| format!("[callers]\ngateway = ['*']\nload = ['{method}']");
        assert_eq!(fault(&callers(METHODS[0])), "");
        for typo in
            ["portolan.payment.v1.PaymentService/GetPayments", "portolan.payment.v1.Service/Get"]
        {
            let line = fault(&callers(typo));
            assert!(line.contains("callers.load") && line.contains(typo), "{line}");
        }
    }
}
