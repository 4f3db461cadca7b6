use std::collections::BTreeMap;

use anyhow::Context as _;
use portolan_kernel::{Clock as _, SystemClock};
use secrecy::SecretString;

use super::{Bootstrap, Change, Changes, Kind, Object};
use crate::{
    out,
    pki::{Authority, Certificate},
};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
pub(super) const CA: &str = "ca.crt";
const NAME: &str = "Portolan root";
/// Replacing a root takes planning.
const SOON: time::Duration = time::Duration::days(365);

impl Bootstrap<'_> {
    /// The root, made if there is none, and everybody's trust in it. It is never replaced: a root
    /// that cannot be used is an error.
    pub(super) async fn root(self) -> anyhow::Result<Authority> {
        let name = &*self.config.root_secret;
        let root = if let Some(root) = self.stored_root(name).await? {
            root
        } else {
            self.new_root(name).await?;
            // Whoever made it, that one is it.
            self.stored_root(name).await?.with_context(|| format!("Secret {name} is gone"))?
        };
        let end = root.certificate().not_after();
        if end - SystemClock.now() < SOON {
            out::error(&format!("Secret {name}: the root of trust ends on {}", end.date()));
        }
        self.trust(&root).await?;
        Ok(root)
    }

    async fn stored_root(self, name: &str) -> anyhow::Result<Option<Authority>> {
        let Some(stored) = self.kubernetes.get(Kind::Secret, name).await? else { return Ok(None) };
        let value = |key| {
            stored.value(key).with_context(|| format!("Secret {name} exists and has no {key}"))
        };
        let root = Authority::from_pem(value(CERTIFICATE)?, value(KEY)?)
            .with_context(|| format!("Secret {name} cannot be used"))?;
        Ok(Some(root))
    }

    async fn new_root(self, name: &str) -> anyhow::Result<()> {
        let root = Authority::generate(NAME, SystemClock.now())?;
        let data = BTreeMap::from([
            (CERTIFICATE.to_owned(), SecretString::from(root.pem())),
            (KEY.to_owned(), root.key_pem()),
        ]);
        let labels = &self.config.labels;
        self.make(&Object { kind: Kind::Certificate, name, labels, data }).await?;
        Ok(())
    }

    /// The `ConfigMap` may name others besides, for a change of root: they stay.
    async fn trust(self, root: &Authority) -> anyhow::Result<()> {
        let name = &*self.config.ca_config_map;
        loop {
            let stored = self.kubernetes.get(Kind::ConfigMap, name).await?;
            let Some(stored) = stored else {
                let data = BTreeMap::from([(CA.to_owned(), SecretString::from(root.pem()))]);
                let labels = &self.config.labels;
                if self.make(&Object { kind: Kind::ConfigMap, name, labels, data }).await? {
                    return Ok(());
                }
                continue;
            };
            let text = stored.value(CA).unwrap_or_default();
            let trusted = Certificate::all(text)
                .with_context(|| format!("ConfigMap {name}: {CA} is not a list of certificates"))?;
            if trusted.contains(root.certificate()) {
                return Ok(());
            }
            let both = SecretString::from([root.pem(), text].concat());
            let values = vec![(CA.to_owned(), Change::Set(both))];
            let changes = Changes { of: Some(&stored.version), values, rehearsal: false };
            if self.kubernetes.patch(Kind::ConfigMap, name, &changes).await? {
                out::line(&format!("added the root of trust to ConfigMap {name}"));
                return Ok(());
            }
        }
    }
}
