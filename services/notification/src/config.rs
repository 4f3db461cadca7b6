use std::time::Duration;

use lettre::{Address, message::Mailbox};
use portolan_messaging::{KafkaConfig, ops};
use portolan_runtime::{
    Callers, TlsConfig, Validate,
    config::{DatabaseConfig, Invalid, ServerConfig, TelemetryConfig},
};
use serde::Deserialize;

use crate::{
    domain::{RetryPolicy, recipient},
    grpc::METHODS,
};

/// The service's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub server: ServerConfig,
    /// Logs, traces and metrics.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its identity; with it the service port demands one of callers.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Who may call which method.
    #[serde(default)]
    pub callers: Callers,
    /// The service's own database.
    pub database: DatabaseConfig,
    /// The brokers and the batches.
    pub kafka: KafkaConfig,
    /// The mail server, if there is one.
    #[serde(default)]
    pub smtp: SmtpConfig,
}

/// `[smtp]`: how customers are told. All keys have defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpConfig {
    /// `smtp://host:port`, without TLS and without authentication: a relay next to the service.
    /// Without it notifications are recorded and go nowhere.
    pub url: Option<String>,
    /// The sender.
    pub from: String,
    /// The customer's address; `{user}` stands for the user's id.
    pub recipient_template: String,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// How many messages are sent at once.
    pub concurrency: u32,
    /// The pause after the first failed attempt, in milliseconds; it doubles with each.
    pub retry_base_ms: u64,
    /// The longest pause, in milliseconds.
    pub retry_cap_ms: u64,
    /// When to give a message up, in seconds.
    pub give_up_secs: u64,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            url: None,
            from: "Portolan <orders@portolan.example>".to_owned(),
            recipient_template: "{user}@customers.example".to_owned(),
            timeout_ms: 5_000,
            concurrency: 16,
            retry_base_ms: 500,
            retry_cap_ms: 60_000,
            give_up_secs: 5 * 24 * 3600,
        }
    }
}

/// Where the mail server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl SmtpConfig {
    /// How long one attempt may take.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long a claim holds: an attempt, and time to write its result down.
    pub fn lease(&self) -> Duration {
        self.timeout() * 2 + Duration::from_secs(5)
    }

    /// How to try again.
    pub const fn policy(&self) -> RetryPolicy {
        RetryPolicy {
            base: Duration::from_millis(self.retry_base_ms),
            cap: Duration::from_millis(self.retry_cap_ms),
            give_up: Duration::from_secs(self.give_up_secs),
        }
    }

    pub(crate) fn server(&self) -> Result<Option<Server>, Invalid> {
        let parse = |url: &str| {
            let (host, port) =
                url.strip_prefix("smtp://")?.trim_end_matches('/').rsplit_once(':')?;
            let plain = !host.is_empty() && !host.contains(['@', '/', '?']);
            Some(Server { host: host.to_owned(), port: port.parse().ok()? }).filter(|_| plain)
        };
        let problem = || Invalid::new("smtp.url", "must be smtp://host:port, without credentials");
        self.url.as_deref().map(|url| parse(url).ok_or_else(problem)).transpose()
    }

    pub(crate) fn sender(&self) -> Result<Mailbox, Invalid> {
        self.from.parse().map_err(|_| Invalid::new("smtp.from", "is not a mail address"))
    }
}

impl Validate for SmtpConfig {
    fn validate(&self) -> Result<(), Invalid> {
        self.server()?;
        self.sender()?;
        let template = &self.recipient_template;
        let address: Result<Address, _> = recipient(template, "alice").parse();
        Invalid::unless(
            template.contains("{user}") && address.is_ok(),
            "smtp.recipient_template",
            "must become a mail address when {user} is replaced",
        )?;
        Invalid::unless(self.timeout_ms > 0, "smtp.timeout_ms", "must be at least 1")?;
        Invalid::unless(
            (1..=1000).contains(&self.concurrency),
            "smtp.concurrency",
            "must be from 1 to 1000",
        )?;
        Invalid::unless(self.retry_base_ms > 0, "smtp.retry_base_ms", "must be at least 1")?;
        Invalid::unless(
            self.retry_cap_ms >= self.retry_base_ms,
            "smtp.retry_cap_ms",
            "must be at least smtp.retry_base_ms",
        )
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.server.validate()?;
        self.telemetry.validate()?;
        self.database.validate()?;
        self.callers.check(&[METHODS.as_slice(), &ops::METHODS].concat())?;
        self.kafka.validate()?;
        self.smtp.validate()
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::config::from_toml;

    use super::*;

    fn with_url(url: &str) -> SmtpConfig {
        SmtpConfig { url: Some(url.to_owned()), ..SmtpConfig::default() }
    }

    #[test]
    fn a_mail_server_is_a_host_and_a_port() {
        let server = with_url("smtp://127.0.0.1:1025").server().unwrap().unwrap();
        assert_eq!(server, Server { host: "127.0.0.1".to_owned(), port: 1025 });
        assert_eq!(SmtpConfig::default().server(), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for bad in ["localhost:25", "smtp://", "smtp://h", "smtp://u:p@h:25", "smtps://h:465", ""] {
            assert_eq!(with_url(bad).validate().unwrap_err().key, "smtp.url", "{bad}");
        }
        let bad =
            SmtpConfig { recipient_template: "all@x.example".to_owned(), ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().key, "smtp.recipient_template");
        let bad = SmtpConfig { from: "nobody".to_owned(), ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().key, "smtp.from");
        let bad = SmtpConfig { retry_cap_ms: 1, ..Default::default() };
        assert_eq!(bad.validate().unwrap_err().key, "smtp.retry_cap_ms");
        assert_eq!(SmtpConfig::default().validate(), Ok(()));
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
             {section}"
        );
        from_toml::<Config>(&text).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn a_caller_of_a_method_that_does_not_exist_is_named() {
        let callers = |method: &str| format!("[callers]\ngateway = ['*']\nload = ['{method}']");
        assert_eq!(fault(&callers(METHODS[0])), "");
        for typo in [
            "portolan.notification.v1.NotificationService/ListNotification",
            "portolan.notification.v1.Service/Get",
        ] {
            let line = fault(&callers(typo));
            assert!(line.contains("callers.load") && line.contains(typo), "{line}");
        }
    }
}
