#[cfg(test)]
mod tests;
mod validate;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use portolan_auth::Role;
use serde::Deserialize;

use crate::cluster::vault_operator::Mounts;

/// What Vault is to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) vault: VaultConfig,
    pub(super) pki: PkiConfig,
    pub(super) database: Option<DatabaseConfig>,
    pub(super) kv: KvConfig,
    #[serde(default)]
    pub(super) workload: Vec<Workload>,
    /// How long one step may take.
    #[serde(default = "wait_secs")]
    pub(super) wait_secs: u64,
}

/// `[vault]`: which Vault, who we are there, and what we call things.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultConfig {
    pub(super) address: String,
    /// The name in its certificate, if that is not the address.
    pub(super) server_name: Option<String>,
    /// Who signed its certificate; without, whom this image trusts.
    pub(super) ca: Option<PathBuf>,
    /// A namespace of Vault Enterprise.
    pub(super) vault_namespace: Option<String>,
    #[serde(default)]
    pub(super) login: LoginMethod,
    /// With `login = "kubernetes"` the service account's token, with `"token"` one of Vault's.
    #[serde(default = "token_file")]
    pub(super) token_file: PathBuf,
    /// Where the login by service account is, ours and the workloads'.
    #[serde(default = "auth_mount")]
    pub(super) auth_mount: String,
    /// Our role there.
    #[serde(default = "role")]
    pub(super) role: String,
    /// The name of our own policy, if we are to keep it up to date: that of the chart's Vault.
    pub(super) own_policy: Option<String>,
    /// What the names of policies and roles begin with. Two installations in one Vault differ in it.
    #[serde(default = "prefix")]
    pub(super) prefix: String,
    /// What the workloads' tokens are for.
    #[serde(default = "audience")]
    pub(super) audience: String,
    /// The namespace (of Kubernetes) of the workloads.
    pub(super) namespace: String,
    /// How long a login lasts, again and again.
    #[serde(default = "token_period")]
    pub(super) token_period: String,
}

/// How we prove who we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LoginMethod {
    #[default]
    Kubernetes,
    Token,
}

/// `[pki]`: the intermediate authority in Vault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PkiConfig {
    #[serde(default = "pki_mount")]
    pub(super) mount: String,
    /// The root that signs it. Without root, the mount has an authority already.
    pub(super) root_cert: Option<PathBuf>,
    pub(super) root_key: Option<PathBuf>,
    /// The longest that anything may last there.
    #[serde(default = "pki_max_ttl")]
    pub(super) max_ttl: String,
    #[serde(default = "leaf_ttl")]
    pub(super) leaf_ttl: String,
    pub(super) trust_domain: String,
}

/// `[database]`: the PostgreSQL server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseConfig {
    #[serde(default = "database_mount")]
    pub(super) mount: String,
    /// The name of the connection in Vault.
    #[serde(default = "connection")]
    pub(super) connection: String,
    pub(super) host: String,
    #[serde(default = "port")]
    pub(super) port: u16,
    pub(super) ca: PathBuf,
    /// The database that administrators connect to.
    #[serde(default = "maintenance")]
    pub(super) maintenance: String,
    /// Whether others use the server too: then only our own databases are closed to the public.
    #[serde(default)]
    pub(super) shared_server: bool,
    /// Who makes roles and databases.
    #[serde(default = "superuser")]
    pub(super) superuser: String,
    pub(super) superuser_password_file: PathBuf,
    /// Whom Vault is, and the password until Vault changes it.
    #[serde(default = "admin")]
    pub(super) admin: String,
    pub(super) admin_password_file: PathBuf,
    #[serde(default = "default_ttl")]
    pub(super) default_ttl: String,
    #[serde(default = "max_ttl")]
    pub(super) max_ttl: String,
    /// A certificate and its key for our own connections, if the server asks for one.
    pub(super) client_cert: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
    /// The same for Vault's connections, and whom Vault trusts: files where Vault runs. Vault reads
    /// them for each connection, so a new certificate needs nothing of us.
    pub(super) vault_ca: Option<String>,
    pub(super) vault_cert: Option<String>,
    pub(super) vault_key: Option<String>,
}

/// `[kv]`: keys and passwords, each an item of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KvConfig {
    #[serde(default = "kv_mount")]
    pub(super) mount: String,
    /// `pem`: the keys that sign the demo users' tokens.
    #[serde(default = "issuer")]
    pub(super) issuer: String,
    /// `api_key`, `previous_api_key`: what the payment provider knows us by.
    #[serde(default = "provider")]
    pub(super) provider: String,
    /// `users`: a list of `username`, `password_hash`, `roles`.
    #[serde(default = "users")]
    pub(super) users: String,
    /// A file for each demo user, with the password. Without, there are none.
    pub(super) demo_users_dir: Option<PathBuf>,
    /// What the demo users are, if not customers.
    #[serde(default)]
    pub(super) roles: BTreeMap<String, Vec<Role>>,
}

/// `[[workload]]`: a service account and what it may have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    /// Names its policy, its roles and its certificate.
    pub(super) name: String,
    pub(super) service_account: String,
    /// What its certificate is for; the name is always one of them. Without any, no certificate.
    #[serde(default)]
    pub(super) dns: Vec<String>,
    #[serde(default)]
    database: Option<String>,
    /// Several databases for one login.
    #[serde(default)]
    databases: Vec<String>,
    #[serde(default)]
    pub(super) access: Option<Access>,
    /// The items that it may read.
    #[serde(default)]
    pub(super) kv: Vec<String>,
}

/// What a login may do in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Access {
    /// Everything: migrations.
    Owner,
    /// Read and write rows.
    Runtime,
    /// Read rows.
    Reader,
}

impl Access {
    pub(super) const ALL: [Self; 3] = [Self::Owner, Self::Runtime, Self::Reader];

    /// The role without login that has these rights.
    pub(super) fn group(self, database: &str) -> String {
        match self {
            Self::Owner => format!("{database}_owner"),
            Self::Runtime => format!("{database}_runtime"),
            Self::Reader => format!("{database}_reader"),
        }
    }
}

/// Files where Vault runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct VaultFiles<'a> {
    pub(super) ca: &'a str,
    pub(super) cert: &'a str,
    pub(super) key: &'a str,
}

impl DatabaseConfig {
    pub(super) fn vault_files(&self) -> Option<VaultFiles<'_>> {
        let (ca, cert) = (self.vault_ca.as_deref()?, self.vault_cert.as_deref()?);
        Some(VaultFiles { ca, cert, key: self.vault_key.as_deref()? })
    }
}

impl Workload {
    pub(super) fn databases(&self) -> impl Iterator<Item = &str> {
        self.database.iter().chain(&self.databases).map(String::as_str)
    }

    pub(super) fn has_database(&self) -> bool {
        self.databases().next().is_some()
    }

    /// Every name that its certificate may have.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.dns.iter().map(String::as_str).chain([&*self.name]).collect()
    }
}

impl Config {
    pub(super) fn databases(&self) -> BTreeSet<&str> {
        self.workload.iter().flat_map(Workload::databases).collect()
    }

    pub(super) fn mounts(&self) -> Mounts {
        let database = self.database.as_ref().map(|database| database.mount.clone());
        Mounts {
            auth: self.vault.auth_mount.clone(),
            pki: self.pki.mount.clone(),
            database: database.unwrap_or_else(database_mount),
            kv: self.kv.mount.clone(),
        }
    }
}

/// The defaults.
macro_rules! text {
    ($($name:ident = $value:literal),* $(,)?) => {
        $(fn $name() -> String { $value.to_owned() })*
    };
}

text! {
    auth_mount = "kubernetes",
    role = "configure",
    prefix = "portolan-",
    audience = "vault",
    token_period = "10m",
    pki_mount = "pki",
    pki_max_ttl = "2160h",
    leaf_ttl = "24h",
    database_mount = "database",
    connection = "postgres",
    maintenance = "postgres",
    superuser = "postgres",
    admin = "vault_admin",
    default_ttl = "1h",
    max_ttl = "24h",
    kv_mount = "kv",
    issuer = "issuer",
    provider = "provider",
    users = "users",
}

fn token_file() -> PathBuf {
    PathBuf::from("/var/run/secrets/vault/token")
}

const fn port() -> u16 {
    5432
}

const fn wait_secs() -> u64 {
    300
}
