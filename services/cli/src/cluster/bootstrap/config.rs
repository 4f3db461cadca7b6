use std::{collections::BTreeMap, net::IpAddr};

use portolan_runtime::{Invalid, Validate};
use serde::Deserialize;

use crate::{
    cluster::{kubernetes::KubernetesConfig, settings},
    pki::{LeafRequest, spiffe_id},
};

const DAY_SECS: u64 = 24 * 60 * 60;

/// What is to exist.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Where everything is made.
    pub(super) namespace: String,
    /// The first part of every identity.
    pub(super) trust_domain: String,
    /// Which Pod Security Standard the namespace is to enforce; empty leaves it alone.
    #[serde(default)]
    pub(super) pod_security: String,
    /// The Secret of the root's certificate and key.
    pub(super) root_secret: String,
    /// The `ConfigMap` of the root's certificate.
    pub(super) ca_config_map: String,
    /// Put on everything that is made.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) certificate: Vec<CertificateConfig>,
    /// Secrets of random values.
    #[serde(default)]
    pub(super) secret: Vec<SecretConfig>,
    /// Secrets that somebody else fills.
    #[serde(default)]
    pub(super) empty_secret: Vec<EmptySecretConfig>,
    pub(super) demo_users: Option<DemoUsers>,
    /// How long one step may take.
    #[serde(default = "wait_secs")]
    pub(super) wait_secs: u64,
    #[serde(default)]
    pub(super) kubernetes: KubernetesConfig,
}

/// `[[certificate]]`: a Secret with `tls.crt`, `tls.key`, `ca.crt` and `bundle.pem` (key and
/// certificate).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateConfig {
    pub(super) secret: String,
    /// What it is for, in messages.
    pub(super) component: String,
    /// The service account, which is also the common name.
    pub(super) name: String,
    #[serde(default)]
    pub(super) dns: Vec<String>,
    #[serde(default)]
    pub(super) ips: Vec<IpAddr>,
    #[serde(default = "days")]
    pub(super) days: u16,
}

/// `[[secret]]`: each key has a random value of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretConfig {
    pub(super) name: String,
    pub(super) keys: Vec<String>,
}

/// `[[empty_secret]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmptySecretConfig {
    pub(super) name: String,
}

/// `[demo_users]`: a random password for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DemoUsers {
    pub(super) secret: String,
    pub(super) users: Vec<String>,
}

const fn days() -> u16 {
    90
}

const fn wait_secs() -> u64 {
    60
}

impl Config {
    /// All Secrets of random values.
    pub(super) fn random_secrets(&self) -> impl Iterator<Item = (&str, &[String])> {
        let users = self.demo_users.iter().map(|users| (&*users.secret, &*users.users));
        self.secret.iter().map(|secret| (&*secret.name, &*secret.keys)).chain(users)
    }
}

impl CertificateConfig {
    /// What the certificate is to say.
    pub(super) fn request(&self, config: &Config) -> LeafRequest {
        LeafRequest {
            name: self.name.clone(),
            dns: self.dns.clone(),
            ips: self.ips.clone(),
            uri: spiffe_id(&config.trust_domain, &config.namespace, &self.name),
            ttl: std::time::Duration::from_secs(u64::from(self.days) * DAY_SECS),
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        settings::label("namespace", &self.namespace)?;
        settings::dns_name("trust_domain", &self.trust_domain)?;
        let levels = ["", "privileged", "baseline", "restricted"];
        let known = levels.contains(&&*self.pod_security);
        Invalid::unless(known, "pod_security", "not privileged, baseline or restricted")?;
        settings::dns_name("root_secret", &self.root_secret)?;
        settings::dns_name("ca_config_map", &self.ca_config_map)?;
        for certificate in &self.certificate {
            certificate.validate()?;
        }
        for empty in &self.empty_secret {
            settings::dns_name("empty_secret.name", &empty.name)?;
        }
        for (name, keys) in self.random_secrets() {
            settings::dns_name("secret.name", name)?;
            for key in keys {
                let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
                let holds = !key.is_empty() && key.len() <= 253 && key.bytes().all(allowed);
                Invalid::unless(holds, "secret.keys", "not a name of a value in a Secret")?;
            }
        }
        self.kubernetes.validate()
    }
}

impl CertificateConfig {
    fn validate(&self) -> Result<(), Invalid> {
        settings::dns_name("certificate.secret", &self.secret)?;
        settings::label("certificate.name", &self.name)?;
        for name in &self.dns {
            settings::dns_name("certificate.dns", name)?;
        }
        Invalid::unless(self.days > 0, "certificate.days", "not a number of days")
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::config::from_toml;

    use super::*;

    fn documented() -> String {
        settings::documented(include_str!("mod.rs"))
    }

    #[test]
    fn the_documented_file_is_one() {
        let config: Config = from_toml(&documented()).unwrap();
        let request = config.certificate[0].request(&config);
        assert_eq!(request.uri, "spiffe://portolan.local/ns/shop/sa/kafka");
        assert_eq!(request.ttl.as_secs(), 90 * DAY_SECS);
        let secrets: Vec<&str> = config.random_secrets().map(|(name, _)| name).collect();
        assert_eq!(secrets, ["postgres-bootstrap", "demo-users"]);
    }

    #[test]
    fn what_cannot_be_is_named_before_anything_is_made() {
        for (from, to, key) in [
            ("\"restricted\"", "\"strict\"", "pod_security"),
            ("\"kafka.shop.svc\"", "\"*.shop.svc\"", "certificate.dns"),
            ("name = \"kafka\"", "name = \"kafka*\"", "certificate.name"),
            ("days = 90", "days = 0", "certificate.days"),
            ("\"vault_admin\"", "\"../x\"", "secret.keys"),
            ("https://kubernetes", "http://kubernetes", "kubernetes.address"),
            ("days = 90", "day = 90", "day"),
        ] {
            let text = documented().replacen(from, to, 1);
            let error = from_toml::<Config>(&text).unwrap_err().to_string();
            assert!(error.contains(key), "{to}: {error}");
        }
    }
}
