use std::{io, path::PathBuf};

use crate::cluster::https::SetupError;

/// Why Vault did not do it. `request` is the method and the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{address} is not an address with a host")]
    Address { address: String },
    #[error("Vault cannot be asked")]
    Setup(#[from] SetupError),
    #[error("{request}: Vault does not answer in time")]
    TimedOut { request: String },
    #[error("{request}: Vault cannot be reached: {cause}")]
    Unreachable { request: String, cause: String },
    #[error("{request}: denied by Vault: {message}")]
    Denied { request: String, message: String },
    #[error("{request}: refused by Vault with status {status}: {message}")]
    Refused { request: String, status: u16, message: String },
    #[error("{request}: the answer cannot be read")]
    Malformed { request: String },
}
