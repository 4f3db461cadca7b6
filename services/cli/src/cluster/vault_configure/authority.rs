use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use portolan_kernel::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::{Configure, Workload};
use crate::{
    out,
    pki::{Authority, Certificate, spiffe_id},
};

/// How long the intermediate lasts, and when it is replaced: at the first run within its last year.
const VALIDITY: Duration = Duration::from_hours(5 * 365 * 24);
const LEFT: time::Duration = time::Duration::days(365);
const NAME: &str = "Portolan workloads";

impl Configure<'_> {
    /// An authority in Vault that signs the workloads' certificates. Its key never leaves Vault.
    pub(super) async fn authority(&self) -> anyhow::Result<()> {
        let current = self.current_issuer().await?;
        let Some(root) = self.root()? else {
            return match current {
                Some(_) => Ok(()),
                None => bail!("{} has no issuer, and no root is given", self.config.pki.mount),
            };
        };
        if current.is_some_and(|current| is_good(&current, &root)) {
            return Ok(());
        }
        let mount = &self.config.pki.mount;
        let body = json!({"common_name": NAME, "key_type": "ec", "key_bits": 256});
        let path = format!("{mount}/intermediate/generate/internal");
        let answer = self.vault.write(&path, &body).await?;
        let request = answer["csr"].as_str().context("Vault made no signing request")?;
        let signed = root.sign_intermediate(request, VALIDITY, SystemClock.now())?;
        // With the root, because the chain that Vault gives out is all that workloads trust.
        let chain = [&*signed, root.pem()].concat();
        let body = json!({"certificate": chain});
        let answer = self.vault.write(&format!("{mount}/intermediate/set-signed"), &body).await?;
        let issuer = issuer_with_key(&answer).context("Vault did not take the certificate")?;
        let body = json!({"default": issuer});
        self.vault.write(&format!("{mount}/config/issuers"), &body).await?;
        out::line("issued an intermediate certificate");
        Ok(())
    }

    /// The certificate that Vault signs with now.
    async fn current_issuer(&self) -> anyhow::Result<Option<Certificate>> {
        let mount = &self.config.pki.mount;
        if self.vault.list(&format!("{mount}/issuers")).await?.is_empty() {
            return Ok(None);
        }
        let default = self.vault.read(&format!("{mount}/config/issuers")).await?;
        let default = default.unwrap_or_default()["default"].take();
        let Some(default) = default.as_str().filter(|id| !id.is_empty()) else { return Ok(None) };
        let issuer = self.vault.read(&format!("{mount}/issuer/{default}")).await?;
        let pem = issuer.unwrap_or_default()["certificate"].take();
        Ok(pem.as_str().and_then(Certificate::from_pem))
    }

    fn root(&self) -> anyhow::Result<Option<Authority>> {
        let pki = &self.config.pki;
        let (Some(certificate), Some(key)) = (&pki.root_cert, &pki.root_key) else {
            return Ok(None);
        };
        let root = Authority::from_pem(&read(certificate)?, &read(key)?);
        Ok(Some(root.context("the root of trust cannot be used")?))
    }

    /// For each workload what may be in its certificates: its own names and its own identity, to
    /// the letter.
    pub(super) async fn certificate_roles(&self) -> anyhow::Result<()> {
        for workload in &self.config.workload {
            if !workload.dns.is_empty() {
                let path = format!("{}/roles/{}", self.config.pki.mount, workload.name);
                self.vault.write(&path, &self.certificate_role(workload)).await?;
            }
        }
        Ok(())
    }

    fn certificate_role(&self, workload: &Workload) -> Value {
        let (vault, pki) = (&self.config.vault, &self.config.pki);
        let uri = spiffe_id(&pki.trust_domain, &vault.namespace, &workload.service_account);
        json!({
            "allowed_domains": workload.names(),
            "allow_bare_domains": true,
            "allow_subdomains": false,
            "allow_glob_domains": false,
            "allow_wildcard_certificates": false,
            "allow_localhost": false,
            "allow_ip_sans": false,
            "allowed_uri_sans": [uri],
            "require_cn": true,
            "key_type": "ec",
            "key_bits": 256,
            "key_usage": ["DigitalSignature"],
            "server_flag": true,
            "client_flag": true,
            "ttl": pki.leaf_ttl,
            "max_ttl": pki.leaf_ttl,
            // They are short-lived and many.
            "no_store": true,
            "generate_lease": false,
        })
    }
}

fn is_good(current: &Certificate, root: &Authority) -> bool {
    current.is_signed_by(root.certificate()) && {
        // One that ends with its root cannot be made longer.
        let end = current.not_after();
        end - SystemClock.now() > LEFT || end >= root.certificate().not_after()
    }
}

/// Of the issuers that were just imported the one that Vault has the key of.
fn issuer_with_key(answer: &Value) -> Option<String> {
    let mapping = answer["mapping"].as_object()?;
    let has_key = |key: &Value| key.as_str().is_some_and(|id| !id.is_empty());
    let (issuer, _) = mapping.iter().find(|(_, key)| has_key(key))?;
    Some(issuer.clone())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
