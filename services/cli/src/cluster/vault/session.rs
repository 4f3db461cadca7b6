use std::{fs, path::PathBuf, time::Duration};

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    error::VaultError,
    server::{Call, Server, read},
};

/// A denied request is tried with another token only if the one it had is older.
const FRESH: Duration = Duration::from_secs(30);

/// How to prove who we are.
#[derive(Debug)]
pub(crate) enum Login {
    /// A token of Vault itself.
    Token(SecretString),
    /// The same, in a file that somebody else keeps current.
    TokenFile(PathBuf),
    /// The service account's token in a file, exchanged for one of Vault's.
    Kubernetes { mount: String, role: String, file: PathBuf },
}

/// Vault for a caller that is logged in, logging in again as the token's end comes near.
#[derive(Debug)]
pub(crate) struct Session {
    server: Server,
    login: Login,
    token: Mutex<Option<Token>>,
}

#[derive(Clone, Debug)]
struct Token {
    text: SecretString,
    since: Instant,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: SecretString,
    /// In seconds; 0 is for ever.
    lease_duration: u64,
}

impl Session {
    pub(crate) fn new(server: Server, login: Login) -> Self {
        Self { server, login, token: Mutex::new(None) }
    }

    /// Logs in, if that has not been done.
    ///
    /// # Errors
    /// Vault does not let us in.
    pub(crate) async fn log_in(&self) -> Result<(), VaultError> {
        self.token(None).await.map(drop)
    }

    /// What is at a path; `None` if nothing is.
    ///
    /// # Errors
    /// Vault did not say.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<Value>, VaultError> {
        let mut answer = self.ask(Method::GET, path, None).await?;
        Ok(Some(answer["data"].take()).filter(|data| !data.is_null()))
    }

    /// The names below a path.
    ///
    /// # Errors
    /// Vault did not say.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<String>, VaultError> {
        let mut answer = self.ask(Method::GET, &format!("{path}?list=true"), None).await?;
        Ok(serde_json::from_value(answer["data"]["keys"].take()).unwrap_or_default())
    }

    /// Writes, or asks something that takes arguments; the answer, if there is one.
    ///
    /// # Errors
    /// Vault did not do it.
    pub(crate) async fn write(&self, path: &str, body: &Value) -> Result<Value, VaultError> {
        let mut answer = self.ask(Method::POST, path, Some(body)).await?;
        Ok(answer["data"].take())
    }

    /// Removes what is at a path, if something is.
    ///
    /// # Errors
    /// Vault did not do it.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), VaultError> {
        self.ask(Method::DELETE, path, None).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, VaultError> {
        let token = self.token(None).await?;
        let call = Call { token: Some(&token.text), body, ..Call::new(method, path) };
        match self.server.call(&call).await {
            // It may have been revoked.
            Err(VaultError::Denied { .. }) if token.since.elapsed() > FRESH => {
                let token = self.token(Some(token.since)).await?;
                self.server.call(&Call { token: Some(&token.text), ..call }).await
            }
            other => other,
        }
    }

    /// The current token, or a new one if it ends soon or is the one of `refused`.
    async fn token(&self, refused: Option<Instant>) -> Result<Token, VaultError> {
        let mut current = self.token.lock().await;
        let usable = current.as_ref().filter(|token| Some(token.since) != refused);
        if let Some(token) = usable.filter(|t| t.until.is_none_or(|until| Instant::now() < until)) {
            return Ok(token.clone());
        }
        let token = self.new_token().await?;
        *current = Some(token.clone());
        Ok(token)
    }

    async fn new_token(&self) -> Result<Token, VaultError> {
        let since = Instant::now();
        match &self.login {
            Login::Token(text) => Ok(Token { text: text.clone(), since, until: None }),
            Login::TokenFile(file) => Ok(Token { text: text(file)?, since, until: None }),
            Login::Kubernetes { mount, role, file } => {
                let path = format!("auth/{mount}/login");
                let jwt = text(file)?;
                let body = json!({"role": role, "jwt": jwt.expose_secret()});
                let call = Call::new(Method::POST, &path).with(&body);
                let LoggedIn { auth } = read(&call, self.server.call(&call).await?)?;
                // Three quarters, so that nothing begins that it does not last for.
                let lasts = Duration::from_secs(auth.lease_duration * 3 / 4);
                let until = (auth.lease_duration > 0).then(|| since + lasts);
                Ok(Token { text: auth.client_token, since, until })
            }
        }
    }
}

fn text(file: &PathBuf) -> Result<SecretString, VaultError> {
    let text = fs::read_to_string(file)
        .map_err(|source| VaultError::File { path: file.clone(), source })?;
    Ok(SecretString::from(text.trim()))
}
