use std::collections::BTreeSet;

use portolan_runtime::{Invalid, Validate};

use super::{Access, Config, DatabaseConfig, KvConfig, PkiConfig, VaultConfig, Workload};
use crate::cluster::settings;

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.vault.validate()?;
        self.mounts().validate("mounts")?;
        self.pki.validate()?;
        self.kv.validate()?;
        if let Some(database) = &self.database {
            database.validate()?;
        }
        let mut names = BTreeSet::new();
        for workload in &self.workload {
            workload.validate(&self.kv)?;
            let new = names.insert(&*workload.name);
            Invalid::unless(new, "workload.name", "given to two workloads")?;
            let served = self.database.is_some() || !workload.has_database();
            Invalid::unless(served, "workload.database", "given, but there is no [database]")?;
        }
        Ok(())
    }
}

impl VaultConfig {
    fn validate(&self) -> Result<(), Invalid> {
        settings::address("vault.address", &self.address)?;
        if let Some(name) = &self.server_name {
            settings::dns_name("vault.server_name", name)?;
        }
        settings::label("vault.namespace", &self.namespace)?;
        settings::mount("vault.role", &self.role)?;
        settings::mount("vault.prefix", &self.prefix)?;
        if let Some(policy) = &self.own_policy {
            settings::mount("vault.own_policy", policy)?;
            let other = !policy.starts_with(&*self.prefix);
            Invalid::unless(other, "vault.own_policy", "begins like those of the workloads")?;
        }
        settings::duration("vault.token_period", &self.token_period)
    }
}

impl PkiConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let both = self.root_cert.is_some() == self.root_key.is_some();
        Invalid::unless(both, "pki.root_key", "root_cert and root_key go together")?;
        settings::dns_name("pki.trust_domain", &self.trust_domain)?;
        settings::duration("pki.max_ttl", &self.max_ttl)?;
        settings::duration("pki.leaf_ttl", &self.leaf_ttl)
    }
}

impl DatabaseConfig {
    fn validate(&self) -> Result<(), Invalid> {
        settings::mount("database.connection", &self.connection)?;
        settings::dns_name("database.host", &self.host)?;
        for (key, text) in [("maintenance", &self.maintenance), ("admin", &self.admin)] {
            identifier(&format!("database.{key}"), text)?;
        }
        let both = self.client_cert.is_some() == self.client_key.is_some();
        Invalid::unless(both, "database.client_key", "client_cert and client_key go together")?;
        let files = [&self.vault_ca, &self.vault_cert, &self.vault_key];
        let all = files.iter().all(|file| file.is_some());
        let none = files.iter().all(|file| file.is_none());
        let why = "vault_ca, vault_cert and vault_key go together";
        Invalid::unless(all || none, "database.vault_key", why)?;
        for file in files.into_iter().flatten() {
            // They become part of a URL.
            let relative = file.strip_prefix('/').unwrap_or_default();
            settings::mount("database.vault_key", relative)?;
        }
        settings::duration("database.default_ttl", &self.default_ttl)?;
        settings::duration("database.max_ttl", &self.max_ttl)
    }
}

impl KvConfig {
    fn validate(&self) -> Result<(), Invalid> {
        for item in [&self.issuer, &self.provider, &self.users] {
            settings::mount("kv", item)?;
        }
        Ok(())
    }
}

impl Workload {
    fn validate(&self, kv: &KvConfig) -> Result<(), Invalid> {
        settings::label("workload.name", &self.name)?;
        settings::label("workload.service_account", &self.service_account)?;
        for name in &self.dns {
            settings::dns_name("workload.dns", name)?;
        }
        for database in self.databases() {
            identifier("workload.database", database)?;
        }
        let both = self.access.is_some() == self.has_database();
        Invalid::unless(both, "workload.access", "access and a database go together")?;
        let one = self.access != Some(Access::Owner) || self.databases().count() == 1;
        Invalid::unless(one, "workload.databases", "an owner has one database")?;
        let items = [&kv.issuer, &kv.provider, &kv.users];
        let known = self.kv.iter().all(|item| items.contains(&item));
        Invalid::unless(known, "workload.kv", "not an item of [kv]")
    }
}

/// A name in SQL that needs no quoting, with room for the names of its groups (63 bytes).
fn identifier(key: &str, text: &str) -> Result<(), Invalid> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    let holds = begins && text.len() <= 48 && text.bytes().all(allowed);
    Invalid::unless(holds, key, "not a name of lower-case letters, digits and underscores")
}
