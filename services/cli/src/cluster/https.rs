//! HTTP clients for servers inside a cluster: of an authority that a file names, asked directly,
//! patient but not for ever.

use std::{error::Error, fs, io, path::Path, path::PathBuf, time::Duration};

use reqwest::{Certificate, ClientBuilder, redirect::Policy};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("no connection by TLS can be set up")]
    Tls(#[from] reqwest::Error),
}

/// A client that trusts whom the file names and nobody else; without a file, whom this machine
/// trusts.
///
/// # Errors
/// The file cannot be read, or is not a list of certificates.
pub(crate) fn client(ca: Option<&Path>) -> Result<ClientBuilder, SetupError> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .no_proxy();
    let Some(path) = ca else { return Ok(client) };
    let pem =
        fs::read(path).map_err(|source| SetupError::File { path: path.to_owned(), source })?;
    Ok(client.tls_certs_only(Certificate::from_pem_bundle(&pem)?))
}

/// The innermost cause of a failed request, for instance `Connection refused (os error 111)`: those
/// around it only say that it was one of a request.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
