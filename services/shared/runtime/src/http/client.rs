use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client whose calls end within `timeout`, connecting included, and which follows no
/// redirects: nobody we call has a reason to send us elsewhere.
///
/// # Errors
/// The TLS backend cannot be set up.
pub fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}
