use std::{str::FromStr as _, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::sync::watch;

use crate::{
    DatabaseConfig, Tasks,
    files::{FileError, POLL, Watched},
    tls,
};

const IDLE_TRANSACTION_LIMIT_MS: &str = "30000";
const STATEMENT_LIMIT: &str = "statement_timeout";
const CREDENTIALS: &str = "database.credentials_file";
const ROOTS: &str = "database.tls_roots";
const IDENTITY: &str = "database.tls_identity";

/// How to get into the database: the fixed part of the configuration and the files that change.
/// It has no `Debug`, because that of the fixed part shows the password of the URL.
pub(super) struct Access {
    base: PgConnectOptions,
    credentials: Option<Watched<Credentials>>,
    roots: Option<Watched<Vec<u8>>>,
    identity: Option<Watched<Vec<u8>>>,
    /// One more for each new content of a file.
    changes: watch::Receiver<u64>,
}

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    /// The parser's own message may quote the URL, and with it the password.
    #[error("database.url is not a postgres:// URL")]
    Url,
    #[error(transparent)]
    File(#[from] FileError),
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: SecretString,
}

/// The reason of serde would quote what it found, which may be the password.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON object of the texts username and password")]
struct NoCredentials;

impl Access {
    /// Reads the files, and goes on reading them as long as `tasks` run.
    pub(super) fn load(
        service: &str,
        config: &DatabaseConfig,
        tasks: &Tasks,
    ) -> Result<Self, AccessError> {
        let base = options(service, config)?;
        let credentials = config.credentials_file.as_ref();
        let credentials = credentials.map(|path| Watched::load(CREDENTIALS, path, credentials_of));
        let roots = config.tls_roots.as_ref();
        let roots = roots.map(|path| Watched::load(ROOTS, path, roots_of));
        let identity = config.tls_identity.as_ref();
        let identity = identity.map(|path| Watched::load(IDENTITY, path, identity_of));
        let (news, changes) = watch::channel(0);
        let access = Self {
            base,
            credentials: credentials.transpose()?,
            roots: roots.transpose()?,
            identity: identity.transpose()?,
            changes,
        };
        access.keep_current(tasks, news);
        Ok(access)
    }

    fn keep_current(&self, tasks: &Tasks, news: watch::Sender<u64>) {
        let (credentials, roots, identity) =
            (self.credentials.clone(), self.roots.clone(), self.identity.clone());
        let soft = tasks.soft();
        let forever = async move {
            loop {
                tokio::time::sleep(POLL).await;
                let read = [
                    reload(credentials.as_ref()).await,
                    reload(roots.as_ref()).await,
                    reload(identity.as_ref()).await,
                ];
                if read.contains(&true) {
                    news.send_modify(|count| *count += 1);
                }
            }
        };
        tasks.spawn("database-files", async move {
            let _: Option<()> = soft.run_until_cancelled(forever).await;
            Ok(())
        });
    }

    /// Whether login or certificates can change while the process runs. Then those of this moment
    /// may be refused merely because the server does not know them yet.
    pub(super) const fn changes(&self) -> bool {
        self.credentials.is_some() || self.roots.is_some() || self.identity.is_some()
    }

    /// How to connect now. It holds what the files said, not their names, so that a connection
    /// never sees one half of a change.
    pub(super) fn options(&self) -> PgConnectOptions {
        let mut options = self.base.clone();
        if let Some(credentials) = &self.credentials {
            let credentials = credentials.current();
            let password = credentials.password.expose_secret();
            options = options.username(&credentials.username).password(password);
        }
        if let Some(roots) = &self.roots {
            let roots = roots.current().as_ref().clone();
            options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(roots);
        }
        if let Some(identity) = &self.identity {
            // The certificates and the key are in one file, and each is found by its kind.
            let pem = identity.current();
            let pem: &[u8] = pem.as_ref();
            options = options.ssl_client_cert_from_pem(pem).ssl_client_key_from_pem(pem);
        }
        options
    }

    /// Waits until [`Access::options`] are other ones.
    pub(super) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// [`Access::changed`], but not for longer than `limit`.
    pub(super) async fn changed_within(&mut self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.changed()).await;
    }
}

async fn reload<T: Send + Sync + 'static>(file: Option<&Watched<T>>) -> bool {
    match file {
        Some(file) => file.reload().await,
        None => false,
    }
}

fn credentials_of(content: &[u8]) -> Result<Credentials, NoCredentials> {
    serde_json::from_slice(content).map_err(|_| NoCredentials)
}

fn roots_of(pem: &[u8]) -> Result<Vec<u8>, tls::TlsError> {
    tls::check_roots(pem)?;
    Ok(pem.to_vec())
}

fn identity_of(pem: &[u8]) -> Result<Vec<u8>, tls::TlsError> {
    tls::expiry(IDENTITY, tls::check_identity(pem)?);
    Ok(pem.to_vec())
}

/// The fixed part: named after the service, with a limit for statements, and with one for
/// transactions left open, so that a zombie holds no lock for long.
fn options(service: &str, config: &DatabaseConfig) -> Result<PgConnectOptions, AccessError> {
    let options = PgConnectOptions::from_str(config.url.expose_secret());
    let options = options.map_err(|_| AccessError::Url)?;
    let statement_timeout = config.statement_timeout_ms.to_string();
    Ok(options.application_name(&format!("portolan-{service}")).options([
        (STATEMENT_LIMIT, statement_timeout.as_str()),
        ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_LIMIT_MS),
    ]))
}

/// The limit for statements that connections have from [`options`].
pub(super) fn statement_timeout(options: &PgConnectOptions) -> Option<Duration> {
    let settings = options.get_options()?.split_whitespace();
    let value = |setting: &str| {
        let (name, value) = setting.split_once('=')?;
        (name == STATEMENT_LIMIT).then(|| value.parse().ok()).flatten()
    };
    let ms: u64 = settings.filter_map(value).next_back()?;
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// Whether `url` can be one of a database.
pub(crate) fn is_url(url: &SecretString) -> bool {
    PgConnectOptions::from_str(url.expose_secret()).is_ok()
}
