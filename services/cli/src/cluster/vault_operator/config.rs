use std::path::PathBuf;

use portolan_runtime::{Invalid, Validate};
use serde::Deserialize;

use super::policy::Mounts;
use crate::cluster::{kubernetes::KubernetesConfig, settings};

/// Which Vault, and to whom it is handed over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Vault, from beside it: `https://127.0.0.1:8200`.
    pub(super) address: String,
    /// The name in its certificate, if that does not have the address.
    pub(super) server_name: Option<String>,
    /// Who signed its certificate.
    pub(super) ca: PathBuf,
    /// The Secret of the key. It exists, perhaps empty.
    pub(super) secret: String,
    pub(super) namespace: String,
    /// The API server as Vault calls it, to have service accounts' tokens reviewed.
    #[serde(default = "kubernetes_host")]
    pub(super) kubernetes_host: String,
    /// Who signed the API server's certificate, for a Vault that is in no pod: in one it finds the
    /// answer, and a token of its own, in the usual place.
    pub(super) kubernetes_ca: Option<PathBuf>,
    /// Whether Vault writes every request, its secrets hashed, to its standard output.
    #[serde(default = "audit")]
    pub(super) audit: bool,
    pub(super) configure: Configure,
    #[serde(default)]
    pub(super) kubernetes: KubernetesConfig,
}

/// `[configure]`: who may configure Vault, and how far that goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Configure {
    pub(super) service_account: String,
    #[serde(default = "audience")]
    pub(super) audience: String,
    /// The name of the role and of its policy.
    #[serde(default = "role")]
    pub(super) role: String,
    /// What the names of the policies and roles begin with that it may write.
    #[serde(default = "prefix")]
    pub(super) prefix: String,
    #[serde(default)]
    pub(super) mounts: Mounts,
}

fn kubernetes_host() -> String {
    "https://kubernetes.default.svc".to_owned()
}

const fn audit() -> bool {
    true
}

fn audience() -> String {
    "vault".to_owned()
}

fn role() -> String {
    "configure".to_owned()
}

fn prefix() -> String {
    "portolan-".to_owned()
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        settings::address("address", &self.address)?;
        if let Some(name) = &self.server_name {
            settings::dns_name("server_name", name)?;
        }
        settings::dns_name("secret", &self.secret)?;
        settings::label("namespace", &self.namespace)?;
        settings::address("kubernetes_host", &self.kubernetes_host)?;
        let Configure { service_account, audience: _, role, prefix, mounts } = &self.configure;
        settings::label("configure.service_account", service_account)?;
        settings::label("configure.role", role)?;
        settings::mount("configure.prefix", prefix)?;
        mounts.validate("configure.mounts")?;
        self.kubernetes.validate()
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::config::from_toml;

    use super::*;

    #[test]
    fn the_documented_file_is_one_and_most_of_it_the_default() {
        let text = settings::documented(include_str!("mod.rs"));
        let all: Config = from_toml(&text).unwrap();
        let least = "address = 'https://127.0.0.1:8200'\nca = 'ca.crt'\nsecret = 'vault-unseal'\n\
                     namespace = 'shop'\n[configure]\nservice_account = 'vault-configure'";
        let least: Config = from_toml(least).unwrap();
        let configure = |config: &Config| format!("{:?}", config.configure);
        assert_eq!(configure(&all), configure(&least));
        assert_eq!((all.kubernetes_host, all.audit), (least.kubernetes_host, least.audit));
        let error =
            from_toml::<Config>(&text.replace("https://127.0.0.1", "http://vault")).unwrap_err();
        assert!(error.to_string().contains("address: not https"), "{error}");
    }
}
