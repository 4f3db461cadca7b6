use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::{Invalid, Validate};

/// `[server]`: the two ports of a process and how it stops.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where the service answers (gRPC or HTTP).
    pub listen: SocketAddr,
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` answer.
    pub admin_listen: SocketAddr,
    /// How long running work may take after SIGTERM, in seconds.
    #[serde(default = "default_grace_secs")]
    pub grace_secs: u64,
    /// How long to go on accepting after readiness went away, in milliseconds: the time load
    /// balancers need to notice.
    #[serde(default)]
    pub drain_delay_ms: u64,
    /// How long a connection to the service port may live, in seconds, give or take a tenth; 0 is
    /// for ever. It ends with its running requests; where no identity is asked for, that goes for
    /// HTTP/2, and a connection with HTTP/1.1 ends when it has been idle for ten seconds. New certificates and new instances of a service
    /// take effect only with new connections.
    #[serde(default = "default_max_connection_age_secs")]
    pub max_connection_age_secs: u64,
    /// How many connections the service port has at once, at most. Those above that wait to be
    /// accepted. Each takes a file descriptor.
    #[serde(default = "default_server_connections")]
    pub max_connections: usize,
}

pub(crate) const DEFAULT_MAX_CONNECTIONS: usize = 1_024;
/// Far above what one process can have open.
const MOST_CONNECTIONS: usize = 1_000_000;

const fn default_server_connections() -> usize {
    DEFAULT_MAX_CONNECTIONS
}

const fn default_max_connection_age_secs() -> u64 {
    300
}

const fn default_grace_secs() -> u64 {
    20
}

impl ServerConfig {
    /// How long running work may take after the soft token.
    pub const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_secs)
    }

    /// How long a connection to the service port may live.
    pub const fn max_connection_age(&self) -> Duration {
        Duration::from_secs(self.max_connection_age_secs)
    }

    /// The time between unready and the soft token.
    pub const fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }
}

impl Validate for ServerConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let distinct = self.listen.port() == 0 || self.listen != self.admin_listen;
        Invalid::unless(distinct, "server.admin_listen", "must differ from server.listen")?;
        let some = (1..=MOST_CONNECTIONS).contains(&self.max_connections);
        Invalid::unless(some, "server.max_connections", "must be from 1 to 1000000")
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

/// `[telemetry]`: logs and traces. All keys have defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Which log lines to write, in the syntax of `tracing_subscriber::EnvFilter`, for instance
    /// `info,portolan_messaging=debug`.
    pub log_filter: String,
    /// Where to send spans, as an OTLP/gRPC URL. Without it trace ids still exist and travel.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::default(),
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
        }
    }
}

impl Validate for TelemetryConfig {
    fn validate(&self) -> Result<(), Invalid> {
        EnvFilter::try_new(&self.log_filter)
            .map_err(|error| Invalid::new("telemetry.log_filter", error.to_string()))?;
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(()) };
        crate::grpc::check_url(endpoint)
            .map_err(|error| Invalid::new("telemetry.otlp_endpoint", error.to_string()))
    }
}

/// `[database]`: one Postgres database and its pool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`, with the query parameters of libpq.
    pub url: SecretString,
    /// A JSON file `{"username", "password"}` which wins over the URL. It is read again when its
    /// content changes, and the pool takes the new login without failing a request.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// A PEM file of the certificates that the server's must come from: given, the connection is
    /// encrypted and the server's certificate and name are verified. Read again when it changes.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
    /// A PEM file with our certificate, its issuer and its PKCS#8 key, shown to the server. Read
    /// again when it changes.
    #[serde(default)]
    pub tls_identity: Option<PathBuf>,
    /// Size of the pool.
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
    /// How long the start waits for the credentials file, the database and its schema, in seconds.
    #[serde(default = "default_connect_timeout_secs")]
    pub connect_timeout_secs: u64,
    /// The server's limit for one statement, in milliseconds.
    #[serde(default = "default_statement_timeout_ms")]
    pub statement_timeout_ms: u64,
}

const fn default_max_connections() -> u32 {
    8
}

const fn default_connect_timeout_secs() -> u64 {
    10
}

const fn default_statement_timeout_ms() -> u64 {
    5000
}

impl DatabaseConfig {
    /// The defaults for a database's URL.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            credentials_file: None,
            tls_roots: None,
            tls_identity: None,
            max_connections: default_max_connections(),
            connect_timeout_secs: default_connect_timeout_secs(),
            statement_timeout_ms: default_statement_timeout_ms(),
        }
    }
}

impl Validate for DatabaseConfig {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(
            self.max_connections > 0,
            "database.max_connections",
            "must be at least 1",
        )?;
        #[cfg(feature = "postgres")]
        Invalid::unless(
            crate::database::is_url(&self.url),
            "database.url",
            "is not a postgres:// URL",
        )?;
        Invalid::unless(
            self.tls_identity.is_none() || self.tls_roots.is_some(),
            "database.tls_identity",
            "needs database.tls_roots",
        )
    }
}
