use std::{io, path::PathBuf};

use crate::cluster::https::SetupError;

/// Why the API server did not do it. `request` says what was asked, for instance
/// `get secret vault-unseal`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubernetesError {
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the API server cannot be asked")]
    Setup(#[from] SetupError),
    /// Nobody refuses, nobody answers: what a network policy does.
    #[error(
        "{request}: the API server does not answer in time; may this pod reach it \
         (networkPolicy.apiServerCidrs)?"
    )]
    TimedOut { request: String },
    #[error("{request}: the API server cannot be reached: {cause}")]
    Unreachable { request: String, cause: String },
    #[error("{request}: the API server does not accept this pod's token")]
    Unauthorized { request: String },
    /// The role of this service account lacks something.
    #[error("{request}: not allowed: {message}")]
    Forbidden { request: String, message: String },
    #[error("{request}: refused with status {status}: {message}")]
    Refused { request: String, status: u16, message: String },
    #[error("{request}: the answer cannot be read")]
    Malformed { request: String },
}
