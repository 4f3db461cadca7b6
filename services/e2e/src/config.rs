//! The configuration files of the processes.

use std::fmt::Write as _;

/// What the gateway's development issuer calls itself.
pub(crate) const ISSUER: &str = "https://portolan.test";
/// Whom its tokens are for.
pub(crate) const AUDIENCE: &str = "portolan";

/// The two ports of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) service: u16,
    pub(crate) admin: u16,
}

impl Ports {
    pub(crate) fn url(self) -> String {
        format!("http://127.0.0.1:{}", self.service)
    }

    pub(crate) fn admin_url(self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }
}

/// A TOML document.
#[derive(Clone, Debug)]
pub(crate) struct Config(String);

impl Config {
    /// Keys before the first section.
    pub(crate) fn new(top: &str) -> Self {
        Self(format!("{top}\n"))
    }

    #[must_use]
    pub(crate) fn section(mut self, name: &str, keys: &str) -> Self {
        write!(self.0, "[{name}]\n{keys}\n").expect("text can be appended");
        self
    }

    #[must_use]
    pub(crate) fn server(self, ports: Ports, drain_ms: u64) -> Self {
        let keys = format!(
            "listen = '127.0.0.1:{}'\nadmin_listen = '127.0.0.1:{}'\ngrace_secs = 5\n\
             drain_delay_ms = {drain_ms}",
            ports.service, ports.admin
        );
        self.section("server", &keys)
    }

    #[must_use]
    pub(crate) fn database(self, url: &str) -> Self {
        let keys = format!("url = '{url}'\nmax_connections = 5\nconnect_timeout_secs = 5");
        self.section("database", &keys)
    }

    #[must_use]
    pub(crate) fn collector(self, url: &str) -> Self {
        self.section("telemetry", &format!("otlp_endpoint = '{url}'"))
    }

    #[must_use]
    pub(crate) fn kafka(self, brokers: &str, prefix: &str, partitions: i32) -> Self {
        let keys = format!(
            "brokers = '{brokers}'\ntopic_prefix = '{prefix}'\npartitions = {partitions}\n\
             session_timeout_ms = 6000\nmessage_timeout_ms = 3000"
        );
        self.section("kafka", &keys)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}
