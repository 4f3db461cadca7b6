use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    SpiffeId,
    spiffe::{is_segment, is_trust_domain},
};
use crate::{Invalid, Validate};

/// `[tls]`: the place of this process in the mesh. With it the service port demands certificates,
/// and calls to `https://` URLs of other components show ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// A PEM file with our certificate, its issuer and its PKCS#8 key: one file, so that
    /// certificate and key can never be of two generations.
    pub identity: PathBuf,
    /// A PEM file of the certificates that those of all others must come from.
    pub roots: PathBuf,
    /// The trust domain of the mesh, for instance `portolan.local`.
    pub trust_domain: String,
    /// The namespace that holds the shop.
    pub namespace: String,
    /// What precedes the names of this installation's components, for instance `blue-`.
    #[serde(default)]
    pub prefix: String,
    /// How often both files are compared with what was read, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
}

const fn default_poll_ms() -> u64 {
    2_000
}

impl TlsConfig {
    /// Where identities of this mesh belong.
    pub fn domain(&self) -> Domain {
        Domain {
            trust_domain: self.trust_domain.clone(),
            namespace: self.namespace.clone(),
            prefix: self.prefix.clone(),
        }
    }

    /// The time between two readings.
    pub const fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}

impl Validate for TlsConfig {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(
            is_trust_domain(&self.trust_domain),
            "tls.trust_domain",
            "is not a SPIFFE trust domain",
        )?;
        Invalid::unless(is_segment(&self.namespace), "tls.namespace", "is not a namespace")?;
        let prefix = self.prefix.is_empty() || is_segment(&self.prefix);
        Invalid::unless(prefix, "tls.prefix", "is not the beginning of a name")?;
        Invalid::unless(self.poll_ms > 0, "tls.poll_ms", "must be at least 1")
    }
}

/// One installation of the shop within a trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The trust domain.
    pub trust_domain: String,
    /// The namespace.
    pub namespace: String,
    /// What precedes the names of components.
    pub prefix: String,
}

impl Domain {
    /// The id that a component of this installation has.
    pub fn id(&self, component: &str) -> SpiffeId {
        SpiffeId::of(self, component)
    }
}
