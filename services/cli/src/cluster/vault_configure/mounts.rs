use serde_json::{Value, json};

use super::Configure;
use crate::{
    cluster::vault_operator::{Mounts, configure_policy},
    out,
};

impl Configure<'_> {
    /// Our own rights, if we keep them: those that this version needs. With those of another
    /// version we may not be let in everywhere.
    pub(super) async fn own_policy(&self) -> anyhow::Result<()> {
        if let Some(own) = &self.config.vault.own_policy {
            let policy = configure_policy(own, &self.config.vault.prefix, &self.config.mounts());
            let body = json!({"policy": policy});
            self.vault.write(&format!("sys/policies/acl/{own}"), &body).await?;
        }
        Ok(())
    }

    /// The places where things are.
    pub(super) async fn mounts(&self) -> anyhow::Result<()> {
        let Mounts { auth: _, pki, database, kv } = self.config.mounts();
        let present = self.vault.read("sys/mounts").await?.unwrap_or_default();
        let longest = json!({"max_lease_ttl": self.config.pki.max_ttl});
        let body = json!({"type": "pki", "config": longest});
        if !self.mount(&present, &pki, &body).await? {
            self.vault.write(&format!("sys/mounts/{pki}/tune"), &longest).await?;
        }
        let body = json!({"type": "kv", "options": {"version": "2"}});
        self.mount(&present, &kv, &body).await?;
        if self.config.database.is_some() {
            self.mount(&present, &database, &json!({"type": "database"})).await?;
        }
        Ok(())
    }

    /// Whether it had to be made.
    async fn mount(&self, present: &Value, path: &str, body: &Value) -> anyhow::Result<bool> {
        if present.get(format!("{path}/")).is_some() {
            return Ok(false);
        }
        self.vault.write(&format!("sys/mounts/{path}"), body).await?;
        out::line(&format!("mounted {path}"));
        Ok(true)
    }
}
