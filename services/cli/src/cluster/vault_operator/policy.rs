use portolan_runtime::Invalid;
use serde::Deserialize;

use crate::cluster::settings;

/// Where in Vault things are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mounts {
    /// The login by service account.
    pub(crate) auth: String,
    /// Certificates.
    pub(crate) pki: String,
    /// Database logins.
    pub(crate) database: String,
    /// Keys and passwords.
    pub(crate) kv: String,
}

impl Default for Mounts {
    fn default() -> Self {
        let [auth, pki, database, kv] = ["kubernetes", "pki", "database", "kv"].map(str::to_owned);
        Self { auth, pki, database, kv }
    }
}

impl Mounts {
    pub(crate) fn validate(&self, key: &str) -> Result<(), Invalid> {
        settings::mount(&format!("{key}.auth"), &self.auth)?;
        settings::mount(&format!("{key}.pki"), &self.pki)?;
        settings::mount(&format!("{key}.database"), &self.database)?;
        settings::mount(&format!("{key}.kv"), &self.kv)
    }
}

/// What `portolan vault-configure` may do. It limits mistakes, not malice: who may write policies
/// and roles can give itself any right. What limits malice is that its tokens last minutes and go
/// to one service account only.
pub(crate) fn configure_policy(own: &str, prefix: &str, mounts: &Mounts) -> String {
    let Mounts { auth, pki, database, kv } = mounts;
    let mut rules = vec![
        rule("sys/mounts", "read"),
        rule("sys/policies/acl", "list"),
        rule(&format!("sys/policies/acl/{prefix}*"), "create read update delete"),
        // Another version of this program may need more than this one.
        rule(&format!("sys/policies/acl/{own}"), "read update"),
        rule(&format!("auth/{auth}/role"), "list"),
        rule(&format!("auth/{auth}/role/{prefix}*"), "create read update delete"),
    ];
    for mount in [pki, database, kv] {
        rules.push(rule(&format!("sys/mounts/{mount}"), "create read update"));
        rules.push(rule(&format!("sys/mounts/{mount}/tune"), "read update"));
        rules.push(rule(&format!("{mount}/*"), "create read update delete list"));
    }
    rules.concat()
}

fn rule(path: &str, capabilities: &str) -> String {
    let quoted: Vec<String> =
        capabilities.split(' ').map(|capability| format!("\"{capability}\"")).collect();
    format!("path \"{path}\" {{ capabilities = [{}] }}\n", quoted.join(", "))
}
