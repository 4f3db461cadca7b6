use std::fs;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::Connection as _;

use super::{
    super::{
        Configure, DatabaseConfig, Workload,
        config::{Access, VaultFiles},
    },
    groups::{read, set_admin_password},
};
use crate::out;

/// What a statement that makes one of our logins begins with.
const CREATE: &str = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' \
                      VALID UNTIL '{{expiration}}' IN ROLE ";
/// Ends the sessions first: a role with a session can be dropped, and the session would go on.
const REVOKE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                      WHERE usename = '{{name}}'; DROP ROLE IF EXISTS \"{{name}}\";";

impl Configure<'_> {
    /// Vault's connection to PostgreSQL and a role for each workload with a database.
    pub(in super::super) async fn engine(&self, config: &DatabaseConfig) -> anyhow::Result<()> {
        self.connection(config).await?;
        for workload in &self.config.workload {
            let Some(access) = workload.access else { continue };
            let body = json!({
                "db_name": config.connection,
                "creation_statements": [creation(workload, access)],
                "revocation_statements": [REVOKE],
                "default_ttl": config.default_ttl,
                "max_ttl": config.max_ttl,
            });
            let path = format!("{}/roles/{}", config.mount, workload.name);
            self.vault.write(&path, &body).await?;
        }
        Ok(())
    }

    /// The first password is valid until Vault has changed it, which it does at once; from then on
    /// only Vault knows it. So whether that password opens the server says how far an earlier run
    /// got, and also whether Vault or PostgreSQL is a new one.
    async fn connection(&self, config: &DatabaseConfig) -> anyhow::Result<()> {
        let path = format!("{}/config/{}", config.mount, config.connection);
        let known = self.vault.read(&path).await?.is_some();
        let mut first_password = first_password_opens(config).await?;
        if !known && !first_password {
            // Only a Vault that is gone knew it.
            let mut db = config.open_as_superuser(&config.maintenance).await?;
            set_admin_password(config, &mut db, "ALTER ROLE %I PASSWORD %L").await?;
            db.close().await?;
            first_password = true;
        }
        let mut body = self.connection_body(config)?;
        if first_password {
            body["password"] = read(&config.admin_password_file)?.expose_secret().into();
        }
        self.vault.write(&path, &body).await?;
        if first_password {
            let rotate = format!("{}/rotate-root/{}", config.mount, config.connection);
            self.vault.write(&rotate, &json!({})).await?;
            out::line(&format!("Vault changed the password of {}", config.admin));
        }
        Ok(())
    }

    /// Without a password: Vault keeps the one that it has.
    fn connection_body(&self, config: &DatabaseConfig) -> anyhow::Result<Value> {
        let workloads = self.config.workload.iter().filter(|w| w.has_database());
        let roles: Vec<&str> = workloads.map(|workload| &*workload.name).collect();
        // With files of its own Vault needs no copies of ours; empty, because what was written
        // before would stay. A client's certificate cannot be given as a text: Vault takes its key
        // for what the login proves itself with, and then refuses to change the password.
        let tls_ca = match config.vault_files() {
            Some(_) => String::new(),
            None => fs::read_to_string(&config.ca)
                .with_context(|| format!("cannot read {}", config.ca.display()))?,
        };
        Ok(json!({
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": roles,
            "username": config.admin,
            "password_authentication": "scram-sha-256",
            "connection_url": connection_url(config),
            "tls_ca": tls_ca,
            "tls_certificate": "",
            "private_key": "",
            "max_open_connections": 3,
            "max_connection_lifetime": "5m",
        }))
    }
}

/// With places for name and password, which Vault fills in.
fn connection_url(config: &DatabaseConfig) -> String {
    let DatabaseConfig { host, port, maintenance, .. } = config;
    let login = "{{username}}:{{password}}";
    let url = format!("postgresql://{login}@{host}:{port}/{maintenance}?sslmode=verify-full");
    match config.vault_files() {
        Some(VaultFiles { ca, cert, key }) => {
            format!("{url}&sslrootcert={ca}&sslcert={cert}&sslkey={key}")
        }
        None => url,
    }
}

/// Whether Vault's role still has the password that it was made with.
async fn first_password_opens(config: &DatabaseConfig) -> anyhow::Result<bool> {
    /// `invalid_password`.
    const WRONG: &str = "28P01";
    let password = read(&config.admin_password_file)?;
    match config.open(&config.admin, &password, &config.maintenance).await {
        Ok(db) => {
            db.close().await?;
            Ok(true)
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(WRONG) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("PostgreSQL as {}", config.admin)),
    }
}

/// A login that is a member of the groups and nothing else. One with the rights of an owner acts as
/// the owner from its first statement: what it makes belongs to the group and outlives it.
fn creation(workload: &Workload, access: Access) -> String {
    let groups: Vec<String> =
        workload.databases().map(|database| format!("\"{}\"", access.group(database))).collect();
    let create = format!("{CREATE}{};", groups.join(", "));
    match workload.databases().next() {
        Some(database) if access == Access::Owner => {
            let owner = access.group(database);
            format!("{create} ALTER ROLE \"{{{{name}}}}\" SET role = '{owner}';")
        }
        _ => create,
    }
}

/// Whether a role of Vault's was written by us.
pub(in super::super) fn is_ours(creation_statements: &Value) -> bool {
    creation_statements[0].as_str().is_some_and(|statement| statement.starts_with(CREATE))
}
