use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::header::CACHE_CONTROL;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::{JoinError, JoinHandle},
    time::Instant,
};
use tracing::Instrument as _;

use crate::{
    error::{AuthError, InvalidToken},
    jwk::{KeySet, VerificationKey},
};

/// A key set document larger than this is not read.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// How long keys are kept.
#[derive(Clone, Copy, Debug)]
pub struct CachePolicy {
    /// The shortest and the longest time that the provider's `Cache-Control: max-age` can ask for;
    /// the shortest also applies without one.
    pub fresh: (Duration, Duration),
    /// The time between two attempts to fetch, whatever tokens arrive: nobody can make us flood
    /// the provider with made-up key names.
    pub cooldown: Duration,
    /// How long known keys are used while the provider does not answer.
    pub stale_if_error: Duration,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            fresh: (Duration::from_mins(5), Duration::from_mins(15)),
            cooldown: Duration::from_secs(10),
            stale_if_error: Duration::from_hours(24),
        }
    }
}

/// The keys of an identity provider, fetched from its JWKS URL when they are needed.
#[derive(Debug)]
pub struct RemoteKeys {
    url: String,
    client: reqwest::Client,
    policy: CachePolicy,
    cached: RwLock<Option<Cached>>,
    /// Held while fetching: one caller fetches, the others wait for the result. Holds the time of
    /// the last attempt.
    flight: Arc<Mutex<Option<Instant>>>,
}

#[derive(Clone, Debug)]
struct Cached {
    keys: KeySet,
    fetched: Instant,
    fresh_for: Duration,
}

enum Lookup {
    Fresh(VerificationKey),
    Stale(VerificationKey),
    Unknown,
    Nothing,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the request failed")]
    Http(#[from] reqwest::Error),
    #[error("the document is too large")]
    TooLarge,
    #[error("the document is not a key set")]
    Parse(#[from] serde_json::Error),
    #[error("the document has no usable key")]
    Empty,
}

impl RemoteKeys {
    /// Keys from a URL. Nothing is fetched before the first token arrives.
    pub fn new(url: impl Into<String>, client: reqwest::Client, policy: CachePolicy) -> Self {
        let (cached, flight) = (RwLock::new(None), Arc::default());
        Self { url: url.into(), client, policy, cached, flight }
    }

    /// The key of that name.
    pub(crate) async fn get(self: &Arc<Self>, kid: &str) -> Result<VerificationKey, AuthError> {
        match self.look_up(kid) {
            Lookup::Fresh(key) => return Ok(key),
            Lookup::Stale(_) => self.renew().await,
            Lookup::Unknown | Lookup::Nothing => self.refresh(kid).await,
        }
        match self.look_up(kid) {
            Lookup::Fresh(key) | Lookup::Stale(key) => Ok(key),
            Lookup::Unknown => Err(AuthError::Invalid(InvalidToken::UnknownKey)),
            Lookup::Nothing => Err(self.unavailable()),
        }
    }

    fn look_up(&self, kid: &str) -> Lookup {
        let guard = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        let Some(cached) = guard.as_ref() else { return Lookup::Nothing };
        let age = cached.fetched.elapsed();
        if age >= cached.fresh_for + self.policy.stale_if_error {
            return Lookup::Nothing;
        }
        match cached.keys.get(kid) {
            Some(key) if age < cached.fresh_for => Lookup::Fresh(key.clone()),
            Some(key) => Lookup::Stale(key.clone()),
            None => Lookup::Unknown,
        }
    }

    fn fetched(&self) -> Option<Instant> {
        let guard = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map(|cached| cached.fetched)
    }

    /// Fetches unless another caller has just done so or the last attempt is too recent.
    async fn refresh(self: &Arc<Self>, kid: &str) {
        let last_attempt = Arc::clone(&self.flight).lock_owned().await;
        if matches!(self.look_up(kid), Lookup::Fresh(_)) {
            return;
        }
        if let Some(fetch) = self.start(last_attempt) {
            over(fetch.await);
        }
    }

    /// Fetches instead of keys that are old. One caller waits for that, so that a key which was
    /// withdrawn meanwhile is not good for one more time. The others do not, and nobody does once
    /// it has failed: the old keys are good enough then.
    async fn renew(self: &Arc<Self>) {
        let Ok(last_attempt) = Arc::clone(&self.flight).try_lock_owned() else { return };
        let failed = *last_attempt > self.fetched();
        if let Some(fetch) = self.start(last_attempt)
            && !failed
        {
            over(fetch.await);
        }
    }

    /// A task of its own: a caller that goes away would take the fetch along, and leave the others
    /// with the cooldown and no keys.
    #[expect(clippy::disallowed_methods, reason = "ends by itself, after the client's time-out")]
    fn start(
        self: &Arc<Self>,
        mut last_attempt: OwnedMutexGuard<Option<Instant>>,
    ) -> Option<JoinHandle<()>> {
        if last_attempt.is_some_and(|at| at.elapsed() < self.policy.cooldown) {
            return None;
        }
        let keys = Arc::clone(self);
        let fetch = async move {
            *last_attempt = Some(Instant::now());
            keys.replace().await;
        };
        Some(tokio::spawn(fetch.in_current_span()))
    }

    async fn replace(&self) {
        match self.fetch().await {
            Ok(fetched) => {
                tracing::info!(url = %self.url, keys = fetched.keys.len(), "signing keys fetched");
                *self.cached.write().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(url = %self.url, error, "signing keys cannot be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<Cached, FetchError> {
        let mut response = self.client.get(&self.url).send().await?.error_for_status()?;
        let cache_control = response.headers().get(CACHE_CONTROL);
        let max_age = cache_control.and_then(|value| value.to_str().ok()).and_then(max_age);
        let (shortest, longest) = self.policy.fresh;
        let fresh_for = max_age.unwrap_or(shortest).max(shortest).min(longest);
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if document.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                return Err(FetchError::TooLarge);
            }
            document.extend_from_slice(&chunk);
        }
        let keys = KeySet::parse(&document)?;
        if keys.len() == 0 {
            return Err(FetchError::Empty);
        }
        Ok(Cached { keys, fetched: Instant::now(), fresh_for })
    }

    fn unavailable(&self) -> AuthError {
        let retry_after_secs = u32::try_from(self.policy.cooldown.as_secs()).unwrap_or(u32::MAX);
        AuthError::KeysUnavailable { retry_after_secs: retry_after_secs.max(1) }
    }
}

fn over(fetch: Result<(), JoinError>) {
    if let Err(error) = fetch {
        tracing::error!(%error, "fetching the signing keys did not end well");
    }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let directive = cache_control.split(',').find_map(|d| d.trim().strip_prefix("max-age="))?;
    directive.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_read_from_among_other_directives() {
        assert_eq!(max_age("public, max-age=600, immutable"), Some(Duration::from_mins(10)));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=soon"), None);
    }
}
