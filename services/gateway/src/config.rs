use std::{path::PathBuf, time::Duration};

use portolan_auth::{Directory, DirectoryError, Role, UserFault, UserRecord};
use portolan_runtime::{
    ServerConfig, TelemetryConfig, TlsConfig, Validate,
    config::Invalid,
    files,
    grpc::{self, BreakerConfig, RetryConfig},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::{browsers::is_origin, quota::QuotaConfig, rate::RatesConfig};

/// The gateway's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Ports and shutdown.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Our identity towards the services. Our own port speaks plain HTTP with it, too.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Where the order service's gRPC is, for instance `http://127.0.0.1:8441`; `https` with
    /// `[tls]`.
    pub order_url: String,
    /// Where the inventory service's gRPC is, for instance `http://127.0.0.1:8442`; `https` with
    /// `[tls]`.
    pub inventory_url: String,
    /// Where the payment service's gRPC is. Only its dead letters are asked for; without it there
    /// are none to be seen here.
    #[serde(default)]
    pub payment_url: Option<String>,
    /// The same of the notification service.
    #[serde(default)]
    pub notification_url: Option<String>,
    /// Whose tokens are accepted.
    pub auth: AuthConfig,
    /// The built-in issuer.
    #[serde(default)]
    pub dev_issuer: DevIssuerConfig,
    /// What a request may cost.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How often somebody may ask this process.
    #[serde(default)]
    pub rates: RatesConfig,
    /// How often somebody may ask all gateways together; without it each process counts for itself
    /// alone.
    #[serde(default)]
    pub quota: Option<QuotaConfig>,
    /// What browsers are told.
    #[serde(default)]
    pub browsers: BrowsersConfig,
    /// When a service is left alone.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// How many reads are repeated whose connection was lost.
    #[serde(default)]
    pub retry: RetryConfig,
}

/// `[auth]`: whose tokens are accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// The `aud` that tokens must have.
    #[serde(default = "default_audience")]
    pub audience: String,
    /// Where an outside identity provider publishes its keys. Without it the built-in issuer's
    /// key counts, which must be enabled then.
    #[serde(default)]
    pub jwks_url: Option<String>,
}

fn default_audience() -> String {
    "portolan".to_owned()
}

/// `[dev_issuer]`: logging in with the users of this file and of another. For development and
/// demonstration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevIssuerConfig {
    /// Whether `POST /v1/tokens` and `/.well-known/jwks.json` exist.
    pub enabled: bool,
    /// The Ed25519 keys (PKCS#8 PEM): the first signs, all are published and verify. Read again
    /// when it changes; see [`portolan_auth::KeyRing`] for how to replace a key.
    pub key_file: PathBuf,
    /// Whether a missing key file is created, with one new key. Otherwise it is an error.
    pub create_key: bool,
    /// How long its tokens are valid, in seconds.
    pub token_ttl_secs: u64,
    /// Who can log in.
    pub users: Vec<UserConfig>,
    /// Who else can: a JSON list of the same. Read again when it changes.
    pub users_file: Option<PathBuf>,
}

impl Default for DevIssuerConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            key_file: PathBuf::from(".portolan/issuer.pem"),
            create_key: true,
            token_ttl_secs: 3600,
            users: Vec::new(),
            users_file: None,
        }
    }
}

impl DevIssuerConfig {
    pub(crate) const fn token_ttl(&self) -> Duration {
        Duration::from_secs(self.token_ttl_secs)
    }

    pub(crate) fn user_records(&self) -> Vec<UserRecord> {
        let record = |user: &UserConfig| UserRecord {
            username: user.username.clone(),
            password_hash: user.password_hash.expose_secret().to_owned(),
            roles: user.roles.clone(),
        };
        self.users.iter().map(record).collect()
    }
}

/// One user of the built-in issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The name, which is the user id everywhere.
    pub username: String,
    /// An argon2 PHC string.
    pub password_hash: SecretString,
    /// `customer`, `operator`.
    pub roles: Vec<Role>,
}

/// `[browsers]`: what browsers are told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrowsersConfig {
    /// The origins whose pages may call this interface (CORS), for instance
    /// `https://shop.example`. None unless they are listed.
    pub allowed_origins: Vec<String>,
    /// For how many seconds a browser is to use nothing but HTTPS for this host
    /// (`Strict-Transport-Security`). Only where TLS ends in front of the gateway, which speaks
    /// plain HTTP itself: RFC 6797 forbids it otherwise. 0 says nothing.
    pub hsts_secs: u64,
}

impl Validate for BrowsersConfig {
    fn validate(&self) -> Result<(), Invalid> {
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            let key = format!("browsers.allowed_origins[{index}]");
            let problem = "must be as browsers write it, for instance https://shop.example";
            Invalid::unless(is_origin(origin), &key, problem)?;
        }
        Ok(())
    }
}

/// `[limits]`: what a request may cost.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The largest request body, in bytes.
    pub body_bytes: usize,
    /// How long an answer may take, in milliseconds. The services get four fifths of it.
    pub request_timeout_ms: u64,
    /// Requests being answered at once; more are told to come back.
    pub concurrent_requests: usize,
    /// Calls to one service under way at once; more are not made, and told to come back. Less than
    /// the requests, so that a service that hangs does not take the place of those that need another.
    pub concurrent_calls: usize,
    /// Orders being placed at once, at most; more are told to come back. There are fewer places
    /// while those who have one wait for longer than `slow_order_ms`.
    pub concurrent_orders: usize,
    /// Placing an order that takes longer is a sign that too many do, in milliseconds.
    pub slow_order_ms: u64,
    /// Event streams open at once; more are told to come back.
    pub concurrent_streams: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes: 262_144,
            request_timeout_ms: 15_000,
            concurrent_requests: 1_024,
            concurrent_calls: 256,
            concurrent_orders: 128,
            slow_order_ms: 100,
            concurrent_streams: 512,
        }
    }
}

impl LimitsConfig {
    pub(crate) const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) const fn slow_order(&self) -> Duration {
        Duration::from_millis(self.slow_order_ms)
    }

    /// Shorter than the request's, so that the service's own answer comes first.
    pub(crate) const fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms / 5 * 4)
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
        let needed = [("order_url", &self.order_url), ("inventory_url", &self.inventory_url)];
        let payment = self.payment_url.as_ref().map(|url| ("payment_url", url));
        let notification = self.notification_url.as_ref().map(|url| ("notification_url", url));
        for (key, text) in needed.into_iter().chain(payment).chain(notification) {
            url(key, text)?;
            let secured = self.tls.is_some() || !text.starts_with("https:");
            Invalid::unless(secured, key, "https:// needs the section [tls]")?;
        }
        Invalid::unless(!self.auth.issuer.is_empty(), "auth.issuer", "must not be empty")?;
        Invalid::unless(!self.auth.audience.is_empty(), "auth.audience", "must not be empty")?;
        match (&self.auth.jwks_url, self.dev_issuer.enabled) {
            (Some(jwks), false) => url("auth.jwks_url", jwks)?,
            (None, true) => self.dev_issuer.validate()?,
            (Some(_), true) => {
                let problem = "must not be set while dev_issuer.enabled is true";
                return Err(Invalid::new("auth.jwks_url", problem));
            }
            (None, false) => {
                let problem = "must be set unless dev_issuer.enabled is true";
                return Err(Invalid::new("auth.jwks_url", problem));
            }
        }
        self.browsers.validate()?;
        self.breaker.validate()?;
        self.retry.validate()?;
        self.rates.validate()?;
        if let Some(quota) = &self.quota {
            quota.validate()?;
        }
        self.limits.validate()
    }
}

impl Validate for DevIssuerConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let range = (60..=86_400).contains(&self.token_ttl_secs);
        Invalid::unless(range, "dev_issuer.token_ttl_secs", "must be 60 to 86400")?;
        Directory::new(self.user_records()).map(drop).map_err(|error| match error {
            DirectoryError::User { index, fault, .. } => {
                let key = format!("dev_issuer.users[{index}].{}", field(fault));
                Invalid::new(key, fault.to_string())
            }
            DirectoryError::Json { .. } | DirectoryError::Decoy(_) => {
                Invalid::new("dev_issuer.users", error.to_string())
            }
        })
    }
}

const fn field(fault: UserFault) -> &'static str {
    match fault {
        UserFault::Name | UserFault::Twice => "username",
        UserFault::Roles => "roles",
        UserFault::Hash => "password_hash",
    }
}

impl Validate for LimitsConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let at_least = |value: usize, key| Invalid::unless(value > 0, key, "must be at least 1");
        at_least(self.body_bytes, "limits.body_bytes")?;
        at_least(self.concurrent_requests, "limits.concurrent_requests")?;
        at_least(self.concurrent_calls, "limits.concurrent_calls")?;
        at_least(self.concurrent_orders, "limits.concurrent_orders")?;
        let slow = self.slow_order_ms > 0;
        Invalid::unless(slow, "limits.slow_order_ms", "must be at least 1")?;
        at_least(self.concurrent_streams, "limits.concurrent_streams")?;
        let long_enough = self.request_timeout_ms >= 100;
        Invalid::unless(long_enough, "limits.request_timeout_ms", "must be at least 100")
    }
}

fn url(key: &str, text: &str) -> Result<(), Invalid> {
    grpc::check_url(text).map_err(|error| Invalid::new(key, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let address = ([127, 0, 0, 1], 0).into();
        let user = UserConfig {
            username: "alice".to_owned(),
            password_hash: SecretString::from(portolan_auth::hash_password("demo").unwrap()),
            roles: vec![Role::Customer],
        };
        Config {
            server: ServerConfig {
                listen: address,
                admin_listen: address,
                grace_secs: 1,
                drain_delay_ms: 0,
                max_connection_age_secs: 0,
                max_connections: 1_024,
            },
            telemetry: TelemetryConfig::default(),
            tls: None,
            order_url: "http://127.0.0.1:8441".to_owned(),
            inventory_url: "http://127.0.0.1:8442".to_owned(),
            payment_url: None,
            notification_url: None,
            auth: AuthConfig {
                issuer: "http://127.0.0.1:8080".to_owned(),
                audience: default_audience(),
                jwks_url: None,
            },
            dev_issuer: DevIssuerConfig {
                enabled: true,
                users: vec![user],
                ..DevIssuerConfig::default()
            },
            limits: LimitsConfig::default(),
            rates: RatesConfig::default(),
            quota: None,
            browsers: BrowsersConfig::default(),
            breaker: BreakerConfig::default(),
            retry: RetryConfig::default(),
        }
    }

    fn fault(change: impl FnOnce(&mut Config)) -> String {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap_err().key
    }

    #[test]
    fn a_wrong_value_is_named_by_its_key() {
        assert!(config().validate().is_ok());
        assert_eq!(fault(|c| c.order_url = "localhost:8441".to_owned()), "order_url");
        let unsecured = fault(|c| c.inventory_url = "https://inventory:8443".to_owned());
        assert_eq!(unsecured, "inventory_url");
        let unsecured = fault(|c| c.payment_url = Some("https://payment:8443".to_owned()));
        assert_eq!(unsecured, "payment_url");
        assert_eq!(fault(|c| c.auth.issuer.clear()), "auth.issuer");
        assert_eq!(fault(|c| c.limits.body_bytes = 0), "limits.body_bytes");
        assert_eq!(fault(|c| c.rates.token.requests = 0), "rates.token.requests");
        let nowhere = fault(|c| c.quota = Some(QuotaConfig::new("valkey".to_owned())));
        assert_eq!(nowhere, "quota.server");
        assert_eq!(fault(|c| c.limits.request_timeout_ms = 1), "limits.request_timeout_ms");
        assert_eq!(fault(|c| c.limits.concurrent_calls = 0), "limits.concurrent_calls");
        assert_eq!(fault(|c| c.limits.concurrent_orders = 0), "limits.concurrent_orders");
        assert_eq!(fault(|c| c.limits.slow_order_ms = 0), "limits.slow_order_ms");
        assert_eq!(fault(|c| c.breaker.min_calls = 0), "breaker.min_calls");
        assert_eq!(fault(|c| c.retry.percent = 101), "retry.percent");
        assert_eq!(fault(|c| c.dev_issuer.token_ttl_secs = 0), "dev_issuer.token_ttl_secs");
        let twice = fault(|c| c.dev_issuer.users.push(c.dev_issuer.users[0].clone()));
        assert_eq!(twice, "dev_issuer.users[1].username");
        let plain = fault(|c| c.dev_issuer.users[0].password_hash = SecretString::from("demo"));
        assert_eq!(plain, "dev_issuer.users[0].password_hash");
        assert_eq!(fault(|c| c.dev_issuer.users[0].roles.clear()), "dev_issuer.users[0].roles");
        let name = fault(|c| c.dev_issuer.users[0].username = "a\nb".to_owned());
        assert_eq!(name, "dev_issuer.users[0].username");
        let any = fault(|c| c.browsers.allowed_origins = vec!["*".to_owned()]);
        assert_eq!(any, "browsers.allowed_origins[0]");
    }

    #[test]
    fn tokens_come_from_exactly_one_place() {
        let url = || Some("https://id.example/keys".to_owned());
        assert_eq!(fault(|c| c.dev_issuer.enabled = false), "auth.jwks_url");
        assert_eq!(fault(|c| c.auth.jwks_url = url()), "auth.jwks_url");
        let mut outside = config();
        outside.dev_issuer.enabled = false;
        outside.auth.jwks_url = url();
        assert!(outside.validate().is_ok());
    }
}
