//! The configuration file of the tools (`--config`): who they are and where the shop is.
//!
//! ```toml
//! [tls]                                  # as the services have it: who we are, whom we trust
//! identity = "/secrets/tls.pem"
//! roots = "/secrets/roots.pem"
//! trust_domain = "portolan.local"
//! namespace = "shop"
//!
//! [services]                             # every address is optional: a tool names what it lacks
//! gateway = ["http://gateway:8080"]
//! inventory = "https://inventory:8443"   # seed; replay, if it may raise stock
//! payment = "https://payment:8443"       # replay: compares captured money
//! jaeger = "http://jaeger:16686"         # smoke
//!
//! [issuer]                               # replay: every customer of the file is a user
//! key_file = "/secrets/issuer.pem"
//!
//! [databases]                            # audit
//! order = "postgres://postgres:5432/portolan_order"
//! inventory = "postgres://postgres:5432/portolan_inventory"
//! payment = "postgres://postgres:5432/portolan_payment"
//! notification = "postgres://postgres:5432/portolan_notification"
//! psp = "postgres://postgres:5432/portolan_psp"
//! credentials_file = "/secrets/db.json"
//! tls_roots = "/secrets/roots.pem"
//! tls_identity = "/secrets/tls.pem"
//!
//! [kafka]                                # audit
//! brokers = "kafka:9092"
//! tls_roots = "/secrets/roots.pem"
//! tls_identity = "/secrets/tls.pem"
//! ```
//!
//! Everything else that a tool needs is on its command line; nothing is looked for in, or written
//! to, a state directory.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use portolan_runtime::{Invalid, Validate, config, tls::TlsConfig};
use serde::Deserialize;

use crate::{
    audit::{Databases, Kafka},
    local::{AUDIENCE, ISSUER},
};

/// Where the shop is, and how to be let in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub tls: Option<TlsConfig>,
    pub services: Services,
    pub issuer: Option<IssuerConfig>,
    pub databases: Option<Databases>,
    pub kafka: Option<Kafka>,
}

/// `[services]`: addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Services {
    /// One, or several replicas.
    pub gateway: Vec<String>,
    pub inventory: Option<String>,
    pub payment: Option<String>,
    pub jaeger: Option<String>,
}

/// `[issuer]`: how tokens are signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerConfig {
    /// The gateway's keys (Ed25519, PKCS#8 PEM). Whoever has them can be anybody.
    pub key_file: PathBuf,
    /// The `iss` that the gateway expects.
    #[serde(default = "issuer")]
    pub name: String,
    /// The `aud` that the gateway expects.
    #[serde(default = "audience")]
    pub audience: String,
}

fn issuer() -> String {
    ISSUER.to_owned()
}

fn audience() -> String {
    AUDIENCE.to_owned()
}

impl Config {
    /// # Errors
    /// The file cannot be read, or says something unknown or unusable.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        config::from_toml(&text).with_context(|| file.display().to_string())
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.tls.as_ref().map_or(Ok(()), Validate::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of the module's documentation.
    fn documented() -> String {
        let own = include_str!("config.rs");
        let lines = own.lines().map_while(|line| line.strip_prefix("//!"));
        let text: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        let text = text.join("\n");
        let (_, rest) = text.split_once("```toml\n").unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    }

    #[test]
    fn the_documented_file_is_one() {
        let config: Config = config::from_toml(&documented()).unwrap();
        assert_eq!(config.services.gateway, ["http://gateway:8080"]);
        assert_eq!(config.issuer.unwrap().audience, "portolan");
        assert!(config.tls.is_some() && config.databases.is_some() && config.kafka.is_some());
    }

    #[test]
    fn what_a_tool_does_not_need_may_be_missing_and_what_is_unknown_is_named() {
        let config: Config = config::from_toml("").unwrap();
        assert!(config.tls.is_none() && config.services.gateway.is_empty());
        let error = config::from_toml::<Config>("[services]\ngatewy = []").unwrap_err();
        assert!(error.to_string().contains("services.gatewy"), "{error}");
    }
}
