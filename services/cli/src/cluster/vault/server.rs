use std::{net::SocketAddr, path::Path, time::Duration};

use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::error::VaultError;
use crate::cluster::https::{self, SetupError};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Initialising writes a lot; and if the answer is not waited for, the key is lost.
const INITIALISE_TIMEOUT: Duration = Duration::from_mins(5);

/// Where Vault is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub address: &'a str,
    /// The name in its certificate, if that is not the address.
    pub server_name: Option<&'a str>,
    /// Who signed its certificate, if not somebody whom this machine trusts anyway.
    pub ca: Option<&'a Path>,
    /// Which namespace (of Vault Enterprise).
    pub namespace: Option<&'a str>,
}

/// A Vault server and what it does for everybody.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    http: reqwest::Client,
    /// `https://server:port/v1`
    base: String,
    namespace: Option<String>,
}

/// How far it is from working.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Health {
    pub initialized: bool,
    pub sealed: bool,
    /// It is open and does not work yet, or another server does.
    pub standby: bool,
}

#[derive(Deserialize)]
struct SealStatus {
    sealed: bool,
}

/// What initialising gives, once.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Unseals, base64.
    pub unseal: SecretString,
    /// May do everything.
    pub root: SecretString,
}

#[derive(Deserialize)]
struct RawKeys {
    keys_base64: [SecretString; 1],
    root_token: SecretString,
}

#[derive(Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Server {
    /// # Errors
    /// The authority cannot be read, or the address is none.
    pub(crate) fn new(endpoint: Endpoint<'_>) -> Result<Self, VaultError> {
        let mut http = https::client(endpoint.ca)?;
        let mut base = endpoint.address.trim_end_matches('/').to_owned();
        if let Some(name) = endpoint.server_name {
            let (url, socket) = named(endpoint.address, name)?;
            base = url;
            http = http.resolve(name, socket);
        }
        Ok(Self {
            http: http.build().map_err(SetupError::Tls)?,
            base: format!("{base}/v1"),
            namespace: endpoint.namespace.map(str::to_owned),
        })
    }

    /// # Errors
    /// It did not say.
    pub(crate) async fn health(&self) -> Result<Health, VaultError> {
        const PATH: &str = "sys/health?standbyok=true&sealedcode=200&uninitcode=200";
        let call = Call::new(Method::GET, PATH);
        read(&call, self.call(&call).await?)
    }

    /// Makes an empty Vault ready to be unsealed, with one key for all.
    ///
    /// # Errors
    /// It is not empty, or did not do it.
    pub(crate) async fn initialise(&self) -> Result<Keys, VaultError> {
        let body = json!({"secret_shares": 1, "secret_threshold": 1});
        let call = Call { timeout: INITIALISE_TIMEOUT, ..Call::new(Method::PUT, "sys/init") };
        let call = call.with(&body);
        let RawKeys { keys_base64: [unseal], root_token: root } =
            read(&call, self.call(&call).await?)?;
        Ok(Keys { unseal, root })
    }

    /// Gives one key; `false` if it takes more of them.
    ///
    /// # Errors
    /// The key is not this Vault's, or it did not do it.
    pub(crate) async fn unseal(&self, key: &str) -> Result<bool, VaultError> {
        let body = json!({"key": key});
        let call = Call::new(Method::PUT, "sys/unseal").with(&body);
        let SealStatus { sealed } = read(&call, self.call(&call).await?)?;
        Ok(!sealed)
    }

    /// One request. `Null` if it answers with nothing, or that there is nothing.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Value, VaultError> {
        let url = format!("{}/{}", self.base, call.path);
        let mut request = self.http.request(call.method.clone(), url).timeout(call.timeout);
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = call.token {
            request = request.header("X-Vault-Token", token.expose_secret());
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| failed(call, &error);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        judge(call, status, &body)
    }
}

/// A request to Vault.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a SecretString>,
    pub(super) body: Option<&'a Value>,
    pub(super) timeout: Duration,
}

impl<'a> Call<'a> {
    pub(super) const fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, token: None, body: None, timeout: TIMEOUT }
    }

    pub(super) const fn with(mut self, body: &'a Value) -> Self {
        self.body = Some(body);
        self
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An address with the name of the certificate in it, and where that name leads.
fn named(address: &str, name: &str) -> Result<(String, SocketAddr), VaultError> {
    let wrong = || VaultError::Address { address: address.to_owned() };
    let mut url = Url::parse(address).map_err(|_| wrong())?;
    let sockets = url.socket_addrs(|| None).map_err(|_| wrong())?;
    let socket = sockets.first().copied().ok_or_else(wrong)?;
    url.set_host(Some(name)).map_err(|_| wrong())?;
    Ok((url.as_str().trim_end_matches('/').to_owned(), socket))
}

fn failed(call: &Call<'_>, error: &reqwest::Error) -> VaultError {
    let request = call.name();
    if error.is_timeout() {
        VaultError::TimedOut { request }
    } else {
        VaultError::Unreachable { request, cause: https::cause(error) }
    }
}

fn judge(call: &Call<'_>, status: StatusCode, body: &[u8]) -> Result<Value, VaultError> {
    if status.is_success() {
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let malformed = |_| VaultError::Malformed { request: call.name() };
        return serde_json::from_slice(body).map_err(malformed);
    }
    let Errors { errors } = serde_json::from_slice(body).unwrap_or_default();
    if status == StatusCode::NOT_FOUND && errors.is_empty() {
        // A deleted item of the key-value store is not found, and yet there is something to say.
        return Ok(serde_json::from_slice(body).unwrap_or_default());
    }
    let (request, message) = (call.name(), errors.join("; "));
    Err(match status {
        StatusCode::FORBIDDEN => VaultError::Denied { request, message },
        _ => VaultError::Refused { request, status: status.as_u16(), message },
    })
}

pub(super) fn read<T: DeserializeOwned>(call: &Call<'_>, answer: Value) -> Result<T, VaultError> {
    serde_json::from_value(answer).map_err(|_| VaultError::Malformed { request: call.name() })
}
