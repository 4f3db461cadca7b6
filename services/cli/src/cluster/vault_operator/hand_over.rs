use std::fs;

use anyhow::Context as _;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Operator, config::Configure, policy::configure_policy, unseal::ROOT};
use crate::{
    cluster::{
        kubernetes::{Change, Changes},
        vault::{Login, Session, VaultError},
    },
    out,
};

/// How long the configuring Job may work with one login.
const TTL: &str = "10m";

impl Operator<'_> {
    /// Lets the configuring Job in and gives up the root token, unless that has been done.
    pub(super) async fn hand_over(&self) -> anyhow::Result<()> {
        let secret = self.secret().await?;
        let Some(root) = secret.value(ROOT) else { return Ok(()) };
        let session = Session::new(self.server.clone(), Login::Token(SecretString::from(root)));
        if is_revoked(&session).await? {
            // We got this far before, and were stopped before the next step.
            self.forget_root().await?;
        } else {
            self.let_in(&session).await?;
            session.write("auth/token/revoke-self", &json!({})).await?;
            self.forget_root().await?;
        }
        out::line("handed Vault over: the root token is revoked");
        Ok(())
    }

    async fn let_in(&self, session: &Session) -> anyhow::Result<()> {
        let Configure { service_account, audience, role, prefix, mounts } = &self.config.configure;
        let auth = &mounts.auth;
        enable(session, "sys/auth", auth, &json!({"type": "kubernetes"})).await?;
        session.write(&format!("auth/{auth}/config"), &self.reviewer()?).await?;
        let policy = json!({"policy": configure_policy(role, prefix, mounts)});
        session.write(&format!("sys/policies/acl/{role}"), &policy).await?;
        let body = json!({
            "bound_service_account_names": [service_account],
            "bound_service_account_namespaces": [self.config.namespace],
            "audience": audience,
            "token_policies": [role],
            "token_ttl": TTL,
            "token_max_ttl": TTL,
        });
        session.write(&format!("auth/{auth}/role/{role}"), &body).await?;
        if self.config.audit {
            let device = json!({"type": "file", "options": {"file_path": "stdout"}});
            enable(session, "sys/audit", "stdout", &device).await?;
        }
        Ok(())
    }

    /// Who says whether a service account's token is genuine.
    fn reviewer(&self) -> anyhow::Result<Value> {
        let mut body = json!({"kubernetes_host": self.config.kubernetes_host});
        if let Some(path) = &self.config.kubernetes_ca {
            let pem = fs::read_to_string(path);
            let pem = pem.with_context(|| format!("cannot read {}", path.display()))?;
            body["kubernetes_ca_cert"] = pem.into();
            body["disable_local_ca_jwt"] = true.into();
        }
        Ok(body)
    }

    async fn forget_root(&self) -> anyhow::Result<()> {
        let values = vec![(ROOT.to_owned(), Change::Remove)];
        self.save(&Changes { of: None, values, rehearsal: false }).await
    }
}

/// Adds to one of Vault's tables, if it is not there.
async fn enable(session: &Session, table: &str, name: &str, body: &Value) -> anyhow::Result<()> {
    let present = session.read(table).await?.unwrap_or_default();
    if present.get(format!("{name}/")).is_none() {
        session.write(&format!("{table}/{name}"), body).await?;
    }
    Ok(())
}

async fn is_revoked(session: &Session) -> Result<bool, VaultError> {
    match session.read("auth/token/lookup-self").await {
        Ok(_) => Ok(false),
        Err(VaultError::Denied { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
