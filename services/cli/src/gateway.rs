//! The gateway's HTTP interface as a client sees it: what is common to `replay` and `smoke`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two questions, unless the answer names a pause, and the longest that is kept.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub headers: HeaderMap,
    pub body: T,
}

/// An answer that is not the wanted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The same request may succeed later: why, for counting, and when, if the answer says so.
    Later { why: String, after: Option<Duration> },
    /// The token does not count. It may be that the issuer's key is just being changed.
    Token(String),
    /// It will not.
    Never(String),
}

impl Refusal {
    /// The reason in words.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Later { why, .. } | Self::Token(why) | Self::Never(why) => why,
        }
    }

    /// The reason without its details, for counting.
    pub(crate) fn kind(&self) -> &str {
        let why = self.why();
        why.split_once(':').map_or(why, |(kind, _)| kind)
    }
}

/// An error of the gateway (RFC 9457).
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

/// A token for the `Authorization` header (RFC 6749 section 5.1).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Token {
    #[serde(rename = "access_token")]
    pub text: SecretString,
    /// In seconds.
    #[serde(rename = "expires_in")]
    lasts: u64,
}

impl Token {
    /// How long it is valid from when it was issued.
    pub(crate) const fn lasts(&self) -> Duration {
        Duration::from_secs(self.lasts)
    }
}

/// An HTTP client for a gateway.
///
/// # Errors
/// The TLS backend cannot be set up.
pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    portolan_runtime::http_client(TIMEOUT).context("no HTTP client can be made")
}

/// An address without the slash that it may end with.
///
/// # Errors
/// It is not an HTTP URL.
pub(crate) fn base(url: &str) -> anyhow::Result<String> {
    let parsed = reqwest::Url::parse(url).with_context(|| format!("{url} is not a URL"))?;
    ensure!(matches!(parsed.scheme(), "http" | "https"), "{url} is not an HTTP URL");
    Ok(url.trim_end_matches('/').to_owned())
}

/// Exchanges a name and a password for a token.
pub(crate) async fn log_in(
    http: &reqwest::Client,
    base: &str,
    name: &str,
    password: &SecretString,
) -> Result<Token, Refusal> {
    let credentials = json!({"username": name, "password": password.expose_secret()});
    let request = http.post(format!("{base}/v1/tokens")).json(&credentials);
    Ok(answer(request.send().await).await?.body)
}

/// Whether the holder of a token may place orders: only a customer has figures of their own.
pub(crate) async fn is_customer(
    http: &reqwest::Client,
    base: &str,
    token: &SecretString,
) -> Result<bool, Refusal> {
    let request = http.get(format!("{base}/v1/me/stats")).bearer_auth(token.expose_secret());
    let response = request.send().await;
    if response.as_ref().is_ok_and(|response| response.status() == StatusCode::FORBIDDEN) {
        return Ok(false);
    }
    answer::<IgnoredAny>(response).await.map(|_| true)
}

/// Asks again while the refusal is only for now, until `deadline`.
///
/// # Errors
/// The last refusal.
pub(crate) async fn patiently<T, F>(
    deadline: Instant,
    mut ask: impl FnMut() -> F,
) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    loop {
        match ask().await {
            Err(Refusal::Later { after, .. }) if Instant::now() < deadline => {
                sleep(after.unwrap_or(PAUSE).min(LONGEST_PAUSE)).await;
            }
            answered => return answered,
        }
    }
}

/// The body of a successful answer with its headers.
pub(crate) async fn answer<T: DeserializeOwned>(
    result: reqwest::Result<Response>,
) -> Result<Answer<T>, Refusal> {
    let response = result.map_err(|error| lost(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.map_err(|error| lost(&error))?;
    if status.is_success() {
        let body = serde_json::from_slice(&body)
            .map_err(|error| Refusal::Never(format!("an unexpected body: {error}")))?;
        return Ok(Answer { headers, body });
    }
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let problem = serde_json::from_slice(&body).unwrap_or_default();
    Err(refusal(status, after.map(Duration::from_secs), &problem))
}

fn lost(error: &reqwest::Error) -> Refusal {
    let why = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "connection lost"
    };
    Refusal::Later { why: why.to_owned(), after: None }
}

fn refusal(status: StatusCode, after: Option<Duration>, problem: &Problem) -> Refusal {
    let why = format!("{} {}", status.as_u16(), problem.code).trim_end().to_owned();
    let passes = match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => true,
        // The user's lock is held, or too many orders are open: both pass, and say when to come
        // back.
        StatusCode::CONFLICT => after.is_some(),
        _ => false,
    };
    if passes {
        Refusal::Later { why, after }
    } else if status == StatusCode::UNAUTHORIZED {
        Refusal::Token(why)
    } else {
        Refusal::Never(format!("{why}: {}", problem.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(status: u16, after: Option<u64>) -> bool {
        let status = StatusCode::from_u16(status).unwrap();
        let refusal = refusal(status, after.map(Duration::from_secs), &Problem::default());
        matches!(refusal, Refusal::Later { .. })
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        assert!(later(429, None) && later(503, None) && later(504, None) && later(409, Some(1)));
        assert!(
            !later(409, None) && !later(422, Some(1)) && !later(500, None) && !later(401, None)
        );
    }

    #[test]
    fn refusals_are_counted_without_their_details() {
        let detail = "lines[0].sku: unknown".to_owned();
        let problem = Problem { code: "unknown_sku".to_owned(), detail };
        let refused = refusal(StatusCode::UNPROCESSABLE_ENTITY, None, &problem);
        assert_eq!(refused.kind(), "422 unknown_sku");
        assert_eq!(refused.why(), "422 unknown_sku: lines[0].sku: unknown");
    }

    #[test]
    fn a_token_that_does_not_count_is_told_apart() {
        let refused = refusal(StatusCode::UNAUTHORIZED, None, &Problem::default());
        assert_eq!(refused, Refusal::Token("401".to_owned()));
    }

    #[test]
    fn an_address_is_a_url_with_or_without_a_slash_at_its_end() {
        assert_eq!(base("http://gateway:8080/").unwrap(), "http://gateway:8080");
        assert!(base("gateway:8080").is_err() && base("ftp://gateway").is_err());
    }
}
