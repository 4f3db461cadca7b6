use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portolan_auth::{Issuer, Role, Verifier};
use portolan_kernel::Clock;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) const ISSUER: &str = "http://localhost:8080";
pub(crate) const AUDIENCE: &str = "portolan";
pub(crate) const NOW: i64 = 1_790_000_000;

/// A clock that says what it is told.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn at(seconds: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(seconds)))
    }

    pub(crate) fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A directory that goes away with the value.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::SeqCst);
        let name = format!("portolan-auth-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.0.join("keys/issuer.pem")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(crate) fn issuer(scratch: &Scratch) -> Issuer {
    Issuer::open(&scratch.key_file(), ISSUER, AUDIENCE).unwrap()
}

pub(crate) fn token(issuer: &Issuer, subject: &str) -> String {
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let roles = [Role::Customer];
    let token = issuer.issue(subject, &roles, now, Duration::from_hours(1), Uuid::from_u128(1));
    token.unwrap().expose_secret().to_owned()
}

pub(crate) fn verifier(issuer: &Issuer, clock: Arc<TestClock>) -> Verifier {
    Verifier::with_static(issuer.jwks(), ISSUER, AUDIENCE, clock)
}

/// Header and claims of a token, as JSON.
pub(crate) fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut next = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (next(), next())
}

/// The signing input of a token made by hand.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

pub(crate) fn with_signature(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}
