use std::collections::BTreeSet;

use serde_json::Value;

use super::{Configure, DatabaseConfig, Workload, database::is_ours};
use crate::{out, pki::spiffe_id};

impl Configure<'_> {
    /// Removes what was made for workloads that no longer exist, and nothing of others.
    pub(super) async fn remove_stale(&self) -> anyhow::Result<()> {
        self.stale_roles().await?;
        self.stale_policies().await?;
        self.stale_certificate_roles().await?;
        match &self.config.database {
            Some(database) => self.stale_database_roles(database).await,
            None => Ok(()),
        }
    }

    /// Before the policies: who has no role gets no policy.
    async fn stale_roles(&self) -> anyhow::Result<()> {
        let vault = &self.config.vault;
        let table = format!("auth/{}/role", vault.auth_mount);
        for name in self.prefixed(&table).await? {
            let path = format!("{table}/{name}");
            let role = self.vault.read(&path).await?.unwrap_or_default();
            if is_list_of(&role["bound_service_account_namespaces"], &vault.namespace) {
                self.remove(&path).await?;
            }
        }
        Ok(())
    }

    async fn stale_policies(&self) -> anyhow::Result<()> {
        for name in self.prefixed("sys/policies/acl").await? {
            let path = format!("sys/policies/acl/{name}");
            let policy = self.vault.read(&path).await?.unwrap_or_default();
            let ours = policy["policy"].as_str().and_then(|text| text.lines().next());
            if ours == Some(&*self.config.vault.mark()) {
                self.remove(&path).await?;
            }
        }
        Ok(())
    }

    async fn stale_certificate_roles(&self) -> anyhow::Result<()> {
        let (vault, pki) = (&self.config.vault, &self.config.pki);
        let table = format!("{}/roles", pki.mount);
        let ours = spiffe_id(&pki.trust_domain, &vault.namespace, "");
        let used = self.used(|workload| !workload.dns.is_empty());
        for name in self.vault.list(&table).await? {
            if used.contains(&*name) {
                continue;
            }
            let path = format!("{table}/{name}");
            let role = self.vault.read(&path).await?.unwrap_or_default();
            let uris = role["allowed_uri_sans"].as_array().cloned().unwrap_or_default();
            let of_ours = |uri: &Value| uri.as_str().is_some_and(|uri| uri.starts_with(&ours));
            if !uris.is_empty() && uris.iter().all(of_ours) {
                self.remove(&path).await?;
            }
        }
        Ok(())
    }

    async fn stale_database_roles(&self, database: &DatabaseConfig) -> anyhow::Result<()> {
        let table = format!("{}/roles", database.mount);
        let used = self.used(Workload::has_database);
        for name in self.vault.list(&table).await? {
            if used.contains(&*name) {
                continue;
            }
            let path = format!("{table}/{name}");
            let role = self.vault.read(&path).await?.unwrap_or_default();
            if role["db_name"] == *database.connection && is_ours(&role["creation_statements"]) {
                self.remove(&path).await?;
            }
        }
        Ok(())
    }

    /// The names in a table that begin like ours and are no workload's.
    async fn prefixed(&self, table: &str) -> anyhow::Result<Vec<String>> {
        let vault = &self.config.vault;
        let used: BTreeSet<String> =
            self.config.workload.iter().map(|workload| vault.name_of(workload)).collect();
        let mut names = self.vault.list(table).await?;
        names.retain(|name| name.starts_with(&*vault.prefix) && !used.contains(name));
        Ok(names)
    }

    fn used(&self, of: impl Fn(&Workload) -> bool) -> BTreeSet<&str> {
        self.config.workload.iter().filter(|w| of(w)).map(|w| &*w.name).collect()
    }

    async fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.vault.delete(path).await?;
        out::line(&format!("removed {path}"));
        Ok(())
    }
}

fn is_list_of(list: &Value, only: &str) -> bool {
    list.as_array().is_some_and(|list| list.len() == 1 && list[0] == only)
}
