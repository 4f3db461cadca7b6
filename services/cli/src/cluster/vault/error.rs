use std::{io, path::PathBuf};

/// Why Vault did not do it. `request` is the method and the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{address} is not an address with a host")]
    Address { address: String },
    #[error("no connection by TLS can be set up")]
    Setup(#[source] reqwest::Error),
    #[error("{request}: Vault does not answer in time")]
    TimedOut { request: String },
    #[error("{request}: Vault cannot be reached")]
    Unreachable { request: String, source: reqwest::Error },
    #[error("{request}: denied by Vault: {message}")]
    Denied { request: String, message: String },
    #[error("{request}: refused by Vault with status {status}: {message}")]
    Refused { request: String, status: u16, message: String },
    #[error("{request}: the answer cannot be read")]
    Malformed { request: String },
}
