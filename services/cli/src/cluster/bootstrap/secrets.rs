use std::collections::BTreeMap;

use super::{Bootstrap, Change, Changes, Kind, Object};
use crate::{cluster::generate::random_value, out};

impl Bootstrap<'_> {
    /// Everything that is not a certificate.
    pub(super) async fn secrets(self) -> anyhow::Result<()> {
        for (name, keys) in self.config.random_secrets() {
            self.random(name, keys).await?;
        }
        for empty in &self.config.empty_secret {
            self.empty(&empty.name).await?;
        }
        Ok(())
    }

    /// Values that exist stay, whatever they are: others know them by now.
    async fn random(self, name: &str, keys: &[String]) -> anyhow::Result<()> {
        loop {
            let Some(stored) = self.kubernetes.get(Kind::Secret, name).await? else {
                let values = keys.iter().map(|key| Ok((key.clone(), random_value()?)));
                let data = values.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
                let labels = &self.config.labels;
                if self.make(&Object { kind: Kind::Secret, name, labels, data }).await? {
                    return Ok(());
                }
                continue;
            };
            let missing: Vec<&String> =
                keys.iter().filter(|key| stored.value(key).is_none()).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let mut values = Vec::new();
            for key in &missing {
                values.push(((*key).clone(), Change::Set(random_value()?)));
            }
            // Only of the version that was read: two values for one key would be one too many.
            let changes = Changes { of: Some(&stored.version), values, rehearsal: false };
            if self.kubernetes.patch(Kind::Secret, name, &changes).await? {
                for key in missing {
                    out::line(&format!("added {key} to Secret {name}"));
                }
                return Ok(());
            }
        }
    }

    /// Its holder may change it but not make it: a right to make cannot be limited to a name. What
    /// is in it is none of our business, so nobody asks.
    async fn empty(self, name: &str) -> anyhow::Result<()> {
        let (labels, data) = (&self.config.labels, BTreeMap::new());
        self.make(&Object { kind: Kind::Secret, name, labels, data }).await?;
        Ok(())
    }
}
