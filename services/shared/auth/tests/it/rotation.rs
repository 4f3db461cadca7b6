//! Changing the signing key under processes that read the file at different moments.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use portolan_auth::{AuthError, InvalidToken, Issuer, KeyRing, LEEWAY, Role, Verifier};
use secrecy::ExposeSecret as _;
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use crate::support::{AUDIENCE, ISSUER, NOW, TestClock};

const TTL: i64 = 600;

fn new_key() -> String {
    let document = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    let body = STANDARD.encode(document.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

/// One process: it signs and verifies with what it has read last.
struct Process {
    file: watch::Sender<Arc<KeyRing>>,
    issuer: Issuer,
    verifier: Verifier,
}

impl Process {
    fn start(pem: &str, clock: &Arc<TestClock>) -> Self {
        let file = watch::Sender::new(Arc::new(KeyRing::parse(pem.as_bytes()).unwrap()));
        let issuer = Issuer::following(file.subscribe(), ISSUER, AUDIENCE);
        let verifier = Verifier::following(file.subscribe(), ISSUER, AUDIENCE, clock.clone());
        Self { file, issuer, verifier }
    }

    fn read(&self, pem: &str) {
        self.file.send_replace(Arc::new(KeyRing::parse(pem.as_bytes()).unwrap()));
    }
}

struct Token {
    text: String,
    ends: i64,
}

struct Shop {
    clock: Arc<TestClock>,
    now: i64,
    processes: [Process; 2],
    tokens: Vec<Token>,
}

impl Shop {
    fn start(pem: &str) -> Self {
        let clock = TestClock::at(NOW);
        let processes = [Process::start(pem, &clock), Process::start(pem, &clock)];
        Self { clock, now: NOW, processes, tokens: Vec::new() }
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        self.clock.set(self.now);
    }

    /// Everybody signs a token, then everybody judges every token that is still valid.
    async fn refusals(&mut self) -> Vec<AuthError> {
        let at = OffsetDateTime::from_unix_timestamp(self.now).unwrap();
        let ttl = Duration::from_secs(u64::try_from(TTL).unwrap());
        for process in &self.processes {
            let token = process.issuer.issue("alice", &[Role::Customer], at, ttl, Uuid::nil());
            let text = token.unwrap().expose_secret().to_owned();
            self.tokens.push(Token { text, ends: self.now + TTL });
        }
        let mut refusals = Vec::new();
        for token in self.tokens.iter().filter(|token| token.ends > self.now) {
            for process in &self.processes {
                refusals.extend(process.verifier.verify(&token.text).await.err());
            }
        }
        refusals
    }

    /// The file changes; the processes read it one after the other.
    async fn replace(&mut self, pem: &str) -> Vec<AuthError> {
        let mut refusals = self.refusals().await;
        for reader in 0..self.processes.len() {
            self.pass(2);
            self.processes[reader].read(pem);
            refusals.extend(self.refusals().await);
        }
        refusals
    }
}

#[tokio::test]
async fn a_key_is_replaced_without_a_valid_token_being_refused_at_any_moment() {
    let (old, new) = (new_key(), new_key());
    let mut shop = Shop::start(&old);
    let kid = |shop: &Shop| shop.processes[0].issuer.jwks().keys[0].kid.clone();
    let first = kid(&shop);
    for pem in [format!("{old}{new}"), format!("{new}{old}")] {
        assert_eq!(shop.replace(&pem).await, [], "{:?}", shop.processes[0].issuer);
        assert_eq!(shop.processes[1].issuer.jwks().keys.len(), 2);
    }
    assert_ne!(kid(&shop), first, "the new key signs");
    // Until the last token of the old key has ended.
    shop.pass(TTL + i64::try_from(LEEWAY.as_secs()).unwrap());
    assert_eq!(shop.replace(&new).await, []);
    assert_eq!(shop.processes[0].issuer.jwks().keys.len(), 1);
}

#[tokio::test]
async fn a_key_that_signs_before_everybody_knows_it_is_refused_by_who_does_not() {
    let (old, new) = (new_key(), new_key());
    let mut shop = Shop::start(&old);
    let refusals = shop.replace(&format!("{new}{old}")).await;
    assert_eq!(refusals, [AuthError::Invalid(InvalidToken::UnknownKey)]);
}

#[tokio::test]
async fn a_key_that_is_taken_away_takes_its_tokens_along_at_once() {
    let (old, new) = (new_key(), new_key());
    let mut shop = Shop::start(&old);
    assert_eq!(shop.refusals().await, []);
    shop.processes.iter().for_each(|process| process.read(&new));
    let unknown = AuthError::Invalid(InvalidToken::UnknownKey);
    assert_eq!(shop.refusals().await, vec![unknown; 4], "two tokens of the old key, by both");
}
