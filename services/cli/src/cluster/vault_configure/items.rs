use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, bail};
use portolan_auth::{Role, hash_password, verify_password};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::Configure;
use crate::{
    cluster::generate::{random_value, signing_key},
    out,
};

/// An item of the key-value store and which version of it was read: what is written says so, and
/// is refused when somebody else has written since.
#[derive(Debug)]
pub(super) struct Item {
    /// `Null` if there is none.
    pub(super) data: Value,
    version: u64,
}

/// A demo user as the gateway reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    username: String,
    password_hash: String,
    roles: Vec<Role>,
}

impl Configure<'_> {
    /// What does not exist is made; what exists stays.
    pub(super) async fn items(&self) -> anyhow::Result<()> {
        let kv = &self.config.kv;
        let issuer = self.item(&kv.issuer).await?;
        if issuer.data["pem"].as_str().is_none_or(str::is_empty) {
            let pem = json!({"pem": signing_key()?.expose_secret()});
            self.put(&kv.issuer, &issuer, &pem).await?;
        }
        let provider = self.item(&kv.provider).await?;
        if provider.data["api_key"].as_str().is_none_or(str::is_empty) {
            let key = json!({"api_key": random_value()?.expose_secret()});
            self.put(&kv.provider, &provider, &key).await?;
        }
        match &kv.demo_users_dir {
            Some(directory) => self.users(directory).await,
            None => Ok(()),
        }
    }

    /// The demo users' passwords, hashed. A hash is another one every time, so it is written only
    /// if the one that is there does not fit: nobody reloads what did not change.
    async fn users(&self, directory: &Path) -> anyhow::Result<()> {
        let name = &self.config.kv.users;
        let item = self.item(name).await?;
        let present: Vec<User> =
            serde_json::from_value(item.data["users"].clone()).unwrap_or_default();
        let (passwords, roles) = (passwords(directory)?, self.config.kv.roles.clone());
        let (before, now) = spawn_blocking(move || {
            let users = passwords.into_iter().map(|(username, password)| {
                let roles = roles.get(&username).cloned().unwrap_or_else(|| vec![Role::Customer]);
                user(&present, username, &password, roles)
            });
            users.collect::<anyhow::Result<Vec<_>>>().map(|users| (present.clone(), users))
        })
        .await??;
        if before != now {
            self.put(name, &item, &json!({"users": now})).await?;
        }
        Ok(())
    }

    pub(super) async fn item(&self, name: &str) -> anyhow::Result<Item> {
        let path = format!("{}/data/{name}", self.config.kv.mount);
        let Some(mut found) = self.vault.read(&path).await? else {
            return Ok(Item { data: Value::Null, version: 0 });
        };
        let version = found["metadata"]["version"].as_u64().context("an item has no version")?;
        Ok(Item { data: found["data"].take(), version })
    }

    pub(super) async fn put(&self, name: &str, before: &Item, data: &Value) -> anyhow::Result<()> {
        let path = format!("{}/data/{name}", self.config.kv.mount);
        let body = json!({"options": {"cas": before.version}, "data": data});
        self.vault.write(&path, &body).await?;
        out::line(&format!("wrote {}/{name}", self.config.kv.mount));
        Ok(())
    }
}

/// The user of that name with that password: the one that is there, if it is.
fn user(
    present: &[User],
    username: String,
    password: &SecretString,
    roles: Vec<Role>,
) -> anyhow::Result<User> {
    let known = present.iter().find(|user| user.username == username);
    let hash = known.map(|user| &user.password_hash);
    let password_hash = match hash.filter(|hash| verify_password(password.expose_secret(), hash)) {
        Some(hash) => hash.clone(),
        None => hash_password(password.expose_secret())?,
    };
    Ok(User { username, password_hash, roles })
}

/// A mounted Secret: each file is a user, with the password in it.
fn passwords(directory: &Path) -> anyhow::Result<BTreeMap<String, SecretString>> {
    let failed = || format!("cannot read {}", directory.display());
    let mut passwords = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The mount's own.
        if name.starts_with('.') || name.is_empty() || path.is_dir() {
            continue;
        }
        let password = fs::read_to_string(&path).with_context(failed)?;
        if password.trim().is_empty() {
            bail!("{} is empty", path.display());
        }
        passwords.insert(name.to_owned(), SecretString::from(password.trim()));
    }
    Ok(passwords)
}
