use std::time::Duration;

use crate::Tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client whose calls end within `timeout`, connecting included, and which follows no
/// redirects: nobody we call has a reason to send us elsewhere.
///
/// # Errors
/// The TLS backend cannot be set up.
pub fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(timeout).build()
}

fn builder(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

/// [`client`] for `https://` calls to one component of the mesh, by mutual TLS: certificate and
/// roots are those of the moment of each handshake.
///
/// # Errors
/// The TLS backend cannot be set up.
pub fn mesh_client(
    timeout: Duration,
    tls: &Tls,
    component: &str,
) -> Result<reqwest::Client, reqwest::Error> {
    let mut config = tls.client_config(component).as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    builder(timeout).https_only(true).tls_backend_preconfigured(config).build()
}
