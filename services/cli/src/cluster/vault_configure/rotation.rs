use std::time::Duration;

use anyhow::{Context as _, ensure};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::sleep;

use super::Configure;
use crate::{
    cluster::generate::{random_value, signing_key},
    out,
};

const END: &str = "-----END PRIVATE KEY-----\n";

/// Which key is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotate {
    Issuer,
    Provider,
}

impl Configure<'_> {
    /// Changes keys so that nobody ever meets one that it does not know: the new key first comes
    /// second, where it is accepted but not used; after `settle` the two change places. A key from
    /// before that is dropped. Interrupted in between, it leaves a key that was never used.
    pub(super) async fn rotate(&self, keys: &[Rotate], settle: Duration) -> anyhow::Result<()> {
        for key in keys {
            self.patience.until_done("a new key", async || self.announce(*key).await).await?;
        }
        out::line(&format!("everybody has {} s to learn the new key", settle.as_secs()));
        sleep(settle).await;
        for key in keys {
            self.patience.until_done("the new key", async || self.promote(*key).await).await?;
        }
        Ok(())
    }

    async fn announce(&self, key: Rotate) -> anyhow::Result<()> {
        let name = self.name_of(key);
        let item = self.item(name).await?;
        let (current, _) = key.read(&item.data).with_context(|| format!("{name} has no key"))?;
        let new = match key {
            Rotate::Issuer => signing_key()?,
            Rotate::Provider => random_value()?,
        };
        self.put(name, &item, &key.with(item.data.clone(), &current, new.expose_secret())).await
    }

    async fn promote(&self, key: Rotate) -> anyhow::Result<()> {
        let name = self.name_of(key);
        let item = self.item(name).await?;
        let keys = key.read(&item.data);
        let (current, second) = keys.with_context(|| format!("{name} has no key"))?;
        ensure!(!second.is_empty(), "{name} was changed by somebody else");
        self.put(name, &item, &key.with(item.data.clone(), &second, &current)).await
    }

    fn name_of(&self, key: Rotate) -> &str {
        match key {
            Rotate::Issuer => &self.config.kv.issuer,
            Rotate::Provider => &self.config.kv.provider,
        }
    }
}

impl Rotate {
    /// The key in use and the other one, or an empty text.
    fn read(self, data: &Value) -> Option<(String, String)> {
        let text = |key: &str| data[key].as_str().unwrap_or_default();
        let (current, second) = match self {
            Self::Issuer => split(text("pem")),
            Self::Provider => (text("api_key"), text("previous_api_key")),
        };
        (!current.is_empty()).then(|| (current.to_owned(), second.to_owned()))
    }

    /// The item with these keys; whatever else is in it stays.
    fn with(self, mut data: Value, current: &str, second: &str) -> Value {
        match self {
            Self::Issuer => data["pem"] = [current, second].concat().into(),
            Self::Provider => {
                data["api_key"] = current.into();
                data["previous_api_key"] = second.into();
            }
        }
        data
    }
}

/// The first key of a PEM text and the second.
fn split(pem: &str) -> (&str, &str) {
    let mut keys = pem.split_inclusive(END).filter(|key| key.ends_with(END));
    (keys.next().unwrap_or_default(), keys.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "-----BEGIN PRIVATE KEY-----\nQQ==\n-----END PRIVATE KEY-----\n";
    const B: &str = "-----BEGIN PRIVATE KEY-----\nQg==\n-----END PRIVATE KEY-----\n";

    #[test]
    fn of_many_signing_keys_two_are_kept() {
        let three = [A, B, A].concat();
        let data = json!({"pem": three, "note": "stays"});
        let (current, second) = Rotate::Issuer.read(&data).unwrap();
        assert_eq!((&*current, &*second), (A, B));
        let swapped = Rotate::Issuer.with(data, &second, &current);
        let two = [B, A].concat();
        assert_eq!(swapped, json!({"pem": two, "note": "stays"}));
        assert_eq!(Rotate::Issuer.read(&json!({"pem": A})), Some((A.to_owned(), String::new())));
        assert_eq!(Rotate::Issuer.read(&json!({"pem": ""})), None);
        assert_eq!(Rotate::Issuer.read(&Value::Null), None);
    }

    #[test]
    fn the_provider_knows_two_keys() {
        let data = Rotate::Provider.with(json!({"api_key": "a"}), "a", "b");
        assert_eq!(data, json!({"api_key": "a", "previous_api_key": "b"}));
        let keys = Rotate::Provider.read(&data).unwrap();
        assert_eq!(keys, ("a".to_owned(), "b".to_owned()));
    }
}
