use std::fmt::Write as _;

use serde_json::json;

use super::{Configure, VaultConfig, Workload};

impl Configure<'_> {
    /// What each may do, and who each is.
    pub(super) async fn let_in(&self, workloads: &[&Workload]) -> anyhow::Result<()> {
        let vault = &self.config.vault;
        for workload in workloads {
            let name = vault.name_of(workload);
            let policy = json!({"policy": self.policy(workload)});
            self.vault.write(&format!("sys/policies/acl/{name}"), &policy).await?;
            // A period, not a maximum: when a token reaches its maximum, the database logins that
            // were leased with it end with it.
            let role = json!({
                "bound_service_account_names": [workload.service_account],
                "bound_service_account_namespaces": [vault.namespace],
                "audience": vault.audience,
                "token_policies": [name],
                "token_period": vault.token_period,
            });
            self.vault.write(&format!("auth/{}/role/{name}", vault.auth_mount), &role).await?;
        }
        Ok(())
    }

    fn policy(&self, workload: &Workload) -> String {
        let Workload { name, dns, kv, .. } = workload;
        let mut policy = format!("{}\n", self.config.vault.mark());
        let mut allow = |path: String, capability: &str| {
            let _infallible =
                writeln!(policy, "path \"{path}\" {{ capabilities = [\"{capability}\"] }}");
        };
        if !dns.is_empty() {
            let mount = &self.config.pki.mount;
            allow(format!("{mount}/issue/{name}"), "update");
            allow(format!("{mount}/cert/ca_chain"), "read");
        }
        if let Some(database) = self.config.database.as_ref().filter(|_| workload.has_database()) {
            allow(format!("{}/creds/{name}", database.mount), "read");
        }
        for item in kv {
            allow(format!("{}/data/{item}", self.config.kv.mount), "read");
        }
        policy
    }
}

impl VaultConfig {
    /// The name of a workload's policy and role.
    pub(super) fn name_of(&self, workload: &Workload) -> String {
        format!("{}{}", self.prefix, workload.name)
    }

    /// The first line of the policies that are ours to change and to remove: another installation
    /// in the same Vault may have a prefix that begins like ours.
    pub(super) fn mark(&self) -> String {
        let namespace = &self.namespace;
        format!("# Written by `portolan vault-configure` for namespace {namespace}.")
    }
}
