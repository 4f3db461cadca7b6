use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use portolan_auth::{AuthError, CachePolicy, InvalidToken, Issuer, RemoteKeys, Verifier};
use tokio::sync::Semaphore;

use crate::support::{
    AUDIENCE, ISSUER, NOW, Scratch, TestClock, issuer, parts, token, unsigned, with_signature,
};

/// An identity provider: what it answers, and how often it was asked.
#[derive(Clone, Debug, Default)]
struct Provider {
    answer: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    /// What an answer waits for, if answers are held back.
    held: Arc<Mutex<Option<Arc<Semaphore>>>>,
}

async fn document(State(provider): State<Provider>) -> Result<String, StatusCode> {
    provider.asked.fetch_add(1, Ordering::SeqCst);
    let held = provider.held.lock().unwrap().clone();
    if let Some(held) = held {
        held.acquire().await.unwrap().forget();
    }
    provider.answer.lock().unwrap().clone().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Provider {
    async fn start() -> (Self, String) {
        let provider = Self::default();
        let app = Router::new().route("/keys", get(document)).with_state(provider.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        start(async move { axum::serve(listener, app).await.unwrap() });
        (provider, url)
    }

    fn publish(&self, issuer: &Issuer) {
        let document = serde_json::to_string(&issuer.jwks()).unwrap();
        *self.answer.lock().unwrap() = Some(document);
    }

    fn fail(&self) {
        *self.answer.lock().unwrap() = None;
    }

    /// Holds answers back; each permit lets one go.
    fn hold(&self) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(0));
        *self.held.lock().unwrap() = Some(Arc::clone(&permits));
        permits
    }

    async fn until_asked(&self, times: usize) {
        while self.asked() < times {
            tokio::task::yield_now().await;
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test server, ended with the test's runtime")]
fn start(server: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(server);
}

fn verifier(url: &str, policy: CachePolicy) -> Verifier {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let keys = RemoteKeys::new(url, client, policy);
    Verifier::from_jwks_url(keys, ISSUER, AUDIENCE, TestClock::at(NOW))
}

fn policy(fresh: u64, cooldown: u64, stale: u64) -> CachePolicy {
    let fresh = Duration::from_secs(fresh);
    CachePolicy {
        fresh: (fresh, fresh),
        cooldown: Duration::from_secs(cooldown),
        stale_if_error: Duration::from_secs(stale),
    }
}

#[tokio::test]
async fn many_callers_at_once_cause_one_fetch() {
    let (provider, url) = Provider::start().await;
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    provider.publish(&issuer);
    let verifier = verifier(&url, CachePolicy::default());
    let token = token(&issuer, "alice");
    let mut calls = Vec::new();
    for _ in 0..50 {
        calls.push(Box::pin(verifier.verify(&token)));
    }
    for result in join_all(calls).await {
        assert_eq!(result.unwrap().sub, "alice");
    }
    assert_eq!(provider.asked(), 1);
}

/// Polls all of them in turn, so that they are under way at once.
async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        let mut index = 0;
        while index < futures.len() {
            match std::pin::Pin::new(&mut futures[index]).poll(cx) {
                std::task::Poll::Ready(value) => {
                    done.push(value);
                    drop(futures.swap_remove(index));
                }
                std::task::Poll::Pending => index += 1,
            }
        }
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test]
async fn made_up_key_names_do_not_flood_the_provider() {
    let (provider, url) = Provider::start().await;
    let scratch = Scratch::new();
    let known = issuer(&scratch);
    provider.publish(&known);
    let verifier = verifier(&url, CachePolicy::default());
    let (mut header, claims) = parts(&token(&known, "mallory"));
    for number in 0..1_000 {
        header["kid"] = format!("made-up-{number}").into();
        let refusal =
            verifier.verify(&with_signature(&unsigned(&header, &claims), b"made up")).await;
        assert_eq!(refusal.unwrap_err(), AuthError::Invalid(InvalidToken::UnknownKey));
    }
    assert_eq!(provider.asked(), 1);
    assert!(verifier.verify(&token(&known, "alice")).await.is_ok());
}

#[tokio::test]
async fn a_new_key_is_found_once_the_cooldown_is_over() {
    let (provider, url) = Provider::start().await;
    let (first, second) = (Scratch::new(), Scratch::new());
    let (old, new) = (issuer(&first), issuer(&second));
    provider.publish(&old);
    let verifier = verifier(&url, policy(3600, 0, 0));
    assert!(verifier.verify(&token(&old, "alice")).await.is_ok());
    provider.publish(&new);
    assert!(verifier.verify(&token(&new, "alice")).await.is_ok());
    assert_eq!(provider.asked(), 2);
    let refusal = verifier.verify(&token(&old, "alice")).await.unwrap_err();
    assert_eq!(refusal, AuthError::Invalid(InvalidToken::UnknownKey), "the old key is gone");
}

#[tokio::test]
async fn known_keys_outlive_a_provider_that_fails() {
    let (provider, url) = Provider::start().await;
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    provider.publish(&issuer);
    let verifier = verifier(&url, policy(0, 0, 3600));
    assert!(verifier.verify(&token(&issuer, "alice")).await.is_ok());
    provider.fail();
    assert!(verifier.verify(&token(&issuer, "alice")).await.is_ok());
    assert_eq!(provider.asked(), 2, "it was asked again and failed");
}

/// What is there without waiting for anything.
async fn at_once<T>(work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = work => done,
        () = std::future::ready(()) => panic!("it waits"),
    }
}

#[tokio::test]
async fn one_caller_waits_for_a_provider_that_hangs_and_after_a_failure_nobody_does() {
    let (provider, url) = Provider::start().await;
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    provider.publish(&issuer);
    let verifier = verifier(&url, policy(0, 0, 3600));
    let token = token(&issuer, "alice");
    assert!(verifier.verify(&token).await.is_ok());
    let answers = provider.hold();
    let mut first = pin!(verifier.verify(&token));
    tokio::select! {
        biased;
        _ = &mut first => panic!("the keys are old, and the provider has not answered"),
        () = provider.until_asked(2) => {}
    }
    for _ in 0..3 {
        assert!(at_once(verifier.verify(&token)).await.is_ok());
    }
    provider.fail();
    answers.add_permits(1);
    assert!(first.await.is_ok());
    for _ in 0..3 {
        assert!(at_once(verifier.verify(&token)).await.is_ok());
    }
    provider.until_asked(3).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_fetch_to_the_others() {
    let (provider, url) = Provider::start().await;
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    provider.publish(&issuer);
    let answers = provider.hold();
    let verifier = verifier(&url, policy(3600, 3600, 0));
    let token = token(&issuer, "alice");
    tokio::select! {
        biased;
        _ = verifier.verify(&token) => panic!("the provider has not answered"),
        () = provider.until_asked(1) => {}
    }
    answers.add_permits(1);
    assert_eq!(verifier.verify(&token).await.unwrap().sub, "alice");
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn without_any_keys_the_answer_is_unavailable_and_not_unauthenticated() {
    let (provider, url) = Provider::start().await;
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let verifier = verifier(&url, policy(3600, 3600, 0));
    for _ in 0..3 {
        let error = verifier.verify(&token(&issuer, "alice")).await.unwrap_err();
        assert_eq!(error, AuthError::KeysUnavailable { retry_after_secs: 3600 });
    }
    assert_eq!(provider.asked(), 1, "the cooldown also holds after a failure");
}
