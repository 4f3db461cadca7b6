//! The five databases, and how to be let in.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use anyhow::{Context as _, anyhow};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sqlx::{
    ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

/// `[databases]` of a configuration file, or `databases.json` in the state directory of
/// `portolan up`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Databases {
    pub(crate) order: String,
    pub(super) inventory: String,
    pub(super) payment: String,
    pub(super) notification: String,
    /// None where the provider is a real one, whose books are its own.
    #[serde(default)]
    pub(super) psp: Option<String>,
    /// A JSON file `{"username", "password"}` for all of them, instead of what the URLs say.
    #[serde(default)]
    credentials_file: Option<PathBuf>,
    /// A PEM file of the certificates that the server's must come from: given, connections are
    /// encrypted, and the server's certificate and name are verified.
    #[serde(default)]
    pub(super) tls_roots: Option<PathBuf>,
    /// A PEM file with our certificate, its issuer and its key, shown to the server.
    #[serde(default)]
    pub(super) tls_identity: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: SecretString,
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URLs carry passwords.
        f.debug_struct("Databases").finish_non_exhaustive()
    }
}

impl Databases {
    /// With the passwords in the URLs, and no TLS.
    pub(super) fn plain([order, inventory, payment, notification, psp]: [String; 5]) -> Self {
        Self { order, inventory, payment, notification, psp: Some(psp), ..Self::default() }
    }

    /// Reads the file that `portolan up` writes.
    ///
    /// # Errors
    /// It is not there, or something else.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file)
            .with_context(|| format!("cannot read {} (is the shop up?)", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a list of databases", file.display()))
    }

    /// Opens a connection to one of them, with the login and the certificates that the files hold
    /// now: they may be others the next time.
    ///
    /// # Errors
    /// A file cannot be read, or the server does not let us in.
    pub(crate) async fn connect(&self, url: &str) -> anyhow::Result<PgConnection> {
        let options = self.options(url)?;
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        options.connect().await.with_context(|| format!("no connection to {host}:{port}"))
    }

    fn options(&self, url: &str) -> anyhow::Result<PgConnectOptions> {
        // The parser's own message may quote the URL, and with it the password.
        let mut options =
            PgConnectOptions::from_str(url).map_err(|_| anyhow!("not a postgres:// URL"))?;
        if let Some(file) = &self.credentials_file {
            let login: Credentials = serde_json::from_slice(&read(file)?)
                .map_err(|_| anyhow!("{} is not a login", file.display()))?;
            options = options.username(&login.username).password(login.password.expose_secret());
        }
        if let Some(file) = &self.tls_roots {
            options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(read(file)?);
        }
        if let Some(file) = &self.tls_identity {
            // Read once: certificate and key belong together.
            let pem = read(file)?;
            options = options.ssl_client_cert_from_pem(&pem).ssl_client_key_from_pem(&pem);
        }
        Ok(options)
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::random_bytes;

    fn scratch() -> PathBuf {
        let name = format!("portolan-login-{}", hex::encode(random_bytes::<8>().unwrap()));
        std::env::temp_dir().join(name)
    }

    fn databases(credentials_file: Option<PathBuf>) -> Databases {
        Databases { credentials_file, ..Databases::default() }
    }

    #[test]
    fn the_login_in_the_file_is_read_at_every_connection_and_wins() {
        let file = scratch();
        let databases = databases(Some(file.clone()));
        for user in ["v-audit-1", "v-audit-2"] {
            std::fs::write(&file, format!(r#"{{"username":"{user}","password":"p"}}"#)).unwrap();
            let options = databases.options("postgres://nobody:x@postgres:5432/orders").unwrap();
            assert_eq!(options.get_username(), user);
            assert_eq!((options.get_host(), options.get_database()), ("postgres", Some("orders")));
        }
        std::fs::remove_file(&file).unwrap();
        assert!(databases.options("postgres://postgres/orders").is_err());
    }

    #[test]
    fn no_error_repeats_a_password() {
        let file = scratch();
        std::fs::write(&file, r#"{"username":"u","pasword":"hunter2"}"#).unwrap();
        let unread = databases(Some(file.clone())).options("postgres://h/d").unwrap_err();
        let bad = databases(None).options("postgres://u:hunter2@h:x/d").unwrap_err();
        std::fs::remove_file(&file).unwrap();
        for error in [unread, bad] {
            assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        }
    }
}
