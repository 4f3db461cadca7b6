use anyhow::{Context as _, bail, ensure};
use portolan_kernel::{Clock as _, SystemClock};
use portolan_runtime::one_line;
use secrecy::SecretString;
use tokio::time::sleep;

use super::{AGAIN, Operator, PAUSE};
use crate::{
    cluster::{
        kubernetes::{Change, Changes, Kind, Stored},
        patience::Said,
        vault::Keys,
    },
    out,
};

/// The values of the Secret.
const KEY: &str = "key";
pub(super) const ROOT: &str = "root";

impl Operator<'_> {
    /// Initialises an empty Vault and saves what only this answer has.
    pub(super) async fn initialise(&self) -> anyhow::Result<()> {
        let secret = self.secret().await?;
        self.rehearse().await.context("Vault is empty, but its key could not be saved")?;
        let _unsaved = self.unsaved.lock().await;
        let keys = self.server.initialise().await?;
        out::line("initialised Vault");
        let changes = changes(&keys, &secret);
        let mut said = Said::default();
        while let Err(error) = self.save(&changes).await {
            let line = format!("Vault's key is not saved yet: {}", one_line(error.as_ref()));
            if said.is_due(&line, AGAIN) {
                out::error(&line);
            }
            sleep(PAUSE).await;
        }
        out::line(&format!("saved Vault's key in Secret {}", self.config.secret));
        Ok(())
    }

    /// Opens Vault after a start.
    pub(super) async fn unseal(&self) -> anyhow::Result<()> {
        let name = &self.config.secret;
        let secret = self.secret().await?;
        let Some(key) = secret.value(KEY) else {
            bail!(
                "Vault is initialised, but Secret {name} has no key for it, and nothing can open \
                 it without: delete Vault's claim and its pod; what is in it is lost"
            );
        };
        let opened = self.server.unseal(key).await;
        if !opened.with_context(|| format!("the key in Secret {name} does not open Vault"))? {
            bail!("Vault is still sealed: it has more keys than the one in Secret {name}");
        }
        out::line("unsealed Vault");
        Ok(())
    }

    /// The Secret as it is now.
    pub(super) async fn secret(&self) -> anyhow::Result<Stored> {
        let name = &self.config.secret;
        let stored = self.kubernetes.get(Kind::Secret, name).await?;
        stored.with_context(|| format!("there is no Secret {name}: `portolan bootstrap` makes it"))
    }

    /// Whether the Secret would take a key.
    async fn rehearse(&self) -> anyhow::Result<()> {
        let value = Change::Set(SecretString::from("a rehearsal"));
        let changes = Changes { values: vec![(KEY.to_owned(), value)], rehearsal: true, of: None };
        self.save(&changes).await
    }

    pub(super) async fn save(&self, changes: &Changes<'_>) -> anyhow::Result<()> {
        let name = &self.config.secret;
        let saved = self.kubernetes.patch(Kind::Secret, name, changes).await?;
        ensure!(saved, "Secret {name} is being changed by somebody else");
        Ok(())
    }
}

/// Key and token in one change, and a key that was there before under another name: if its Vault is
/// not lost but only absent, it is still needed.
fn changes(keys: &Keys, secret: &Stored) -> Changes<'static> {
    let mut values = vec![
        (KEY.to_owned(), Change::Set(keys.unseal.clone())),
        (ROOT.to_owned(), Change::Set(keys.root.clone())),
    ];
    if let Some(before) = secret.value(KEY) {
        let name = format!("{KEY}-before-{}", SystemClock.now().unix_timestamp());
        values.push((name, Change::Set(SecretString::from(before))));
    }
    Changes { of: None, values, rehearsal: false }
}
