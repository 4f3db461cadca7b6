//! `portolan vault-configure`: brings Vault up to date with a revision of the chart: mounts, the
//! certificate authority, policies and logins for each workload, database roles, keys. It can be
//! run again at any time, and works on the chart's Vault as on an outside one.
//!
//! Order matters for the time of a first start. A workload's agent asks again only every few
//! seconds, so the workload is let in last, when everything it will ask for exists; and one that
//! needs no database does not wait for PostgreSQL.
//!
//! `--rotate-issuer` and `--rotate-provider` change a key instead, in two steps: first everybody
//! learns the new key, then it is used.
//!
//! ```toml
//! wait_secs = 300                        # for each step
//!
//! [vault]
//! address = "https://vault.shop.svc:8200"
//! ca = "/etc/portolan-ca/ca.crt"         # without: whom the image trusts
//! server_name = "vault.shop.svc"         # in its certificate, if that is not the address
//! vault_namespace = "team"               # of Vault Enterprise
//! login = "kubernetes"                   # token_file is a service account's; or "token": it is Vault's
//! token_file = "/var/run/secrets/vault/token"
//! auth_mount = "kubernetes"              # ours and the workloads'
//! role = "configure"
//! own_policy = "configure"               # kept up to date, if given: with the chart's Vault
//! prefix = "portolan-"                   # of policies and roles: <prefix><workload>
//! audience = "vault"                     # of the workloads' tokens
//! namespace = "shop"                     # of the workloads
//! token_period = "10m"
//!
//! [pki]
//! mount = "pki"
//! root_cert = "/etc/portolan-root/tls.crt"   # without both: the mount has an authority
//! root_key = "/etc/portolan-root/tls.key"
//! max_ttl = "2160h"
//! leaf_ttl = "24h"
//! trust_domain = "portolan.local"
//!
//! [database]                             # optional
//! mount = "database"
//! connection = "postgres"
//! host = "postgres.shop.svc"
//! port = 5432
//! ca = "/etc/portolan-ca/ca.crt"
//! maintenance = "postgres"               # the database that administrators use
//! shared_server = false                  # true: leaves that one and template1 open to the public
//! superuser = "postgres"                 # or who may make roles and databases
//! superuser_password_file = "/etc/portolan-postgres/superuser"
//! admin = "vault_admin"                  # made if missing; Vault changes its password
//! admin_password_file = "/etc/portolan-postgres/vault_admin"
//! default_ttl = "1h"
//! max_ttl = "24h"
//! client_cert = "/etc/portolan-client/tls.crt"   # of this Job, if the server asks: both
//! client_key = "/etc/portolan-client/tls.key"
//! vault_ca = "/etc/portolan-ca/ca.crt"   # the same for Vault, as files in its pod: all three
//! vault_cert = "/etc/vault/tls/tls.crt"
//! vault_key = "/etc/vault/tls/tls.key"
//!
//! [kv]                                   # version 2
//! mount = "kv"
//! issuer = "issuer"                      # pem: Ed25519 keys, the first signs
//! provider = "provider"                  # api_key, previous_api_key
//! users = "users"                        # users: [{username, password_hash, roles}]
//! demo_users_dir = "/etc/portolan-demo-users"    # optional: a file each, with the password
//! roles = { olga = ["operator"] }        # the others are customers
//!
//! [[workload]]
//! name = "order"
//! service_account = "order"
//! dns = ["order", "order.shop.svc"]      # of its certificate; none: no certificate
//! database = "portolan_order"
//! access = "runtime"                     # or "owner", "reader"
//! kv = []                                # what it may read
//!
//! [[workload]]
//! name = "audit"
//! service_account = "audit"
//! databases = ["portolan_order", "portolan_payment"]
//! access = "reader"
//! ```

mod access;
mod authority;
mod config;
mod database;
mod items;
mod mounts;
mod rotation;
mod stale;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use self::{
    config::{Config, DatabaseConfig, LoginMethod, VaultConfig, Workload},
    rotation::Rotate,
};
use super::{
    patience::Patience,
    settings,
    vault::{Endpoint, Login, Server, Session},
};
use crate::out;

/// How to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Only changes the key that signs the demo users' tokens. The previous one stays valid.
    #[arg(long)]
    rotate_issuer: bool,
    /// Only changes the key for the payment provider simulator. The previous one stays valid.
    #[arg(long)]
    rotate_provider: bool,
    /// How long everybody has to learn a new key before it is used, in seconds: agents fetch keys
    /// once a minute.
    #[arg(long, default_value_t = 120)]
    settle_secs: u64,
}

/// # Errors
/// Something cannot be brought up to date within the time.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config: Config = settings::read(&args.config)?;
    Box::pin(configure(&config, args)).await?;
    Ok(ExitCode::SUCCESS)
}

async fn configure(config: &Config, args: &Args) -> anyhow::Result<()> {
    let configure = Configure::new(config)?;
    configure.log_in().await?;
    let mut rotations = Vec::new();
    if args.rotate_issuer {
        rotations.push(Rotate::Issuer);
    }
    if args.rotate_provider {
        rotations.push(Rotate::Provider);
    }
    if rotations.is_empty() {
        configure.all().await
    } else {
        configure.rotate(&rotations, Duration::from_secs(args.settle_secs)).await
    }
}

/// What every step needs.
#[derive(Debug)]
struct Configure<'a> {
    config: &'a Config,
    vault: Session,
    patience: Patience,
}

impl<'a> Configure<'a> {
    fn new(config: &'a Config) -> anyhow::Result<Self> {
        let VaultConfig { address, server_name, ca, vault_namespace, .. } = &config.vault;
        let server = Server::new(Endpoint {
            address,
            server_name: server_name.as_deref(),
            ca: ca.as_deref(),
            namespace: vault_namespace.as_deref(),
        })?;
        let file = config.vault.token_file.clone();
        let login = match config.vault.login {
            LoginMethod::Token => Login::TokenFile(file),
            LoginMethod::Kubernetes => Login::Kubernetes {
                mount: config.vault.auth_mount.clone(),
                role: config.vault.role.clone(),
                file,
            },
        };
        let patience = Patience { limit: Duration::from_secs(config.wait_secs) };
        Ok(Self { config, vault: Session::new(server, login), patience })
    }

    async fn log_in(&self) -> anyhow::Result<()> {
        let log_in = async || Ok(self.vault.log_in().await?);
        self.patience.until_done("logging in to Vault", log_in).await?;
        out::line("logged in to Vault");
        Ok(())
    }

    async fn all(&self) -> anyhow::Result<()> {
        let step = self.patience;
        step.until_done("Vault's own policy", async || self.own_policy().await).await?;
        step.until_done("Vault's mounts", async || self.mounts().await).await?;
        step.until_done("the certificate authority", async || self.authority().await).await?;
        step.until_done("the certificates' roles", async || self.certificate_roles().await).await?;
        step.until_done("keys and passwords", async || self.items().await).await?;
        let workloads = &self.config.workload;
        let (with_database, without): (Vec<&Workload>, Vec<&Workload>) =
            workloads.iter().partition(|workload| workload.has_database());
        step.until_done("policies and logins", async || self.let_in(&without).await).await?;
        if let Some(database) = &self.config.database {
            step.until_done("PostgreSQL's roles", async || self.groups(database).await).await?;
            step.until_done("database logins", async || self.engine(database).await).await?;
        }
        step.until_done("policies and logins", async || self.let_in(&with_database).await).await?;
        step.until_done("what is no longer used", async || self.remove_stale().await).await?;
        out::line(&format!("Vault is up to date for {} workloads", workloads.len()));
        Ok(())
    }
}
