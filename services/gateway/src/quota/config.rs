use std::{path::PathBuf, time::Duration};

use portolan_runtime::{Validate, config::Invalid};
use portolan_valkey::is_address;
use serde::Deserialize;

use crate::rate::Rate;

/// `[quota]`: what all gateways together allow a subject, and the server that counts it for them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    /// The server's address (`host:port`): Valkey, or Redis 7 or later.
    pub server: String,
    /// A PEM file of the certificates that the server's must come from: given, the connection is
    /// encrypted and the server's certificate and name verified. Read again when it changes.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
    /// A PEM file with our certificate, its issuer and its PKCS#8 key, shown to the server. Read
    /// again when it changes.
    #[serde(default)]
    pub tls_identity: Option<PathBuf>,
    /// How long the server may take for one answer, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// What only reads, for each subject.
    #[serde(default = "default_rate")]
    pub read: Rate,
    /// What changes something, for each subject.
    #[serde(default = "default_rate")]
    pub write: Rate,
}

const fn default_timeout_ms() -> u64 {
    50
}

const fn default_rate() -> Rate {
    Rate::per_minute(3_000)
}

impl QuotaConfig {
    /// The defaults with this server, without TLS.
    pub fn new(server: String) -> Self {
        Self {
            server,
            tls_roots: None,
            tls_identity: None,
            timeout_ms: default_timeout_ms(),
            read: default_rate(),
            write: default_rate(),
        }
    }

    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl Validate for QuotaConfig {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(is_address(&self.server), "quota.server", "must be host:port")?;
        let verified = self.tls_identity.is_none() || self.tls_roots.is_some();
        Invalid::unless(verified, "quota.tls_identity", "needs quota.tls_roots")?;
        Invalid::unless(self.timeout_ms > 0, "quota.timeout_ms", "must be at least 1")?;
        self.read.check("quota.read")?;
        self.write.check("quota.write")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut QuotaConfig)) -> String {
        let mut config = QuotaConfig::new("valkey:6379".to_owned());
        change(&mut config);
        config.validate().map_or_else(|error| error.key, |()| String::new())
    }

    #[test]
    fn a_wrong_value_is_named_by_its_key() {
        assert_eq!(fault(|_| ()), "");
        assert_eq!(fault(|quota| quota.server = "redis://valkey".to_owned()), "quota.server");
        assert_eq!(fault(|quota| quota.tls_identity = Some("a.pem".into())), "quota.tls_identity");
        assert_eq!(fault(|quota| quota.timeout_ms = 0), "quota.timeout_ms");
        assert_eq!(fault(|quota| quota.read.requests = 0), "quota.read.requests");
        assert_eq!(fault(|quota| quota.write.per_secs = 0), "quota.write.per_secs");
    }
}
