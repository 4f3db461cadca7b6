use std::{
    path::PathBuf,
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use portolan_auth::{Issuer, Role};
use portolan_kernel::{Clock as _, IdGen as _, RandomIds, SystemClock};
use portolan_testkit::{PATIENCE, eventually};
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Service, Shop,
    config::{AUDIENCE, ISSUER},
    shop::PASSWORD,
};

const HOUR: Duration = Duration::from_hours(1);

static KEYS: AtomicU64 = AtomicU64::new(0);

/// A line of an order: SKU and quantity.
pub type Line<'a> = (&'a str, u32);

/// What a client asked for, and what it was promised.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Attempt {
    user: String,
    key: String,
    order: Option<Uuid>,
}

/// An HTTP answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: reqwest::header::HeaderMap,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// A header's text, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id in the body.
    /// There is none.
    pub fn id(&self) -> Uuid {
        let id = self.body["id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
        id.unwrap_or_else(|| panic!("an id in {}", self.body))
    }

    /// Fails unless the status is this.
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// Fails unless it is a problem document with this status and code (RFC 9457).
    #[must_use]
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.body);
        assert_eq!(answer.body["code"], code, "{}", answer.body);
        assert_eq!(answer.body["status"], status, "{}", answer.body);
        answer
    }
}

/// Someone with a token, talking to one of the gateways.
#[derive(Clone, Debug)]
pub struct Customer<'a> {
    shop: &'a Shop,
    /// The user id.
    pub name: String,
    token: String,
    gateway: usize,
}

impl Shop {
    /// Logs in as one of the configured users.
    pub async fn log_in(&self, name: &str) -> Customer<'_> {
        let url = format!("{}/v1/tokens", self.url(Service::Gateway, 0));
        let credentials = json!({"username": name, "password": PASSWORD});
        let answer = send(self.http.post(url).json(&credentials)).await.expect("an answer");
        let answer = answer.expect(200);
        let token = answer.body["access_token"].as_str().expect("an access token").to_owned();
        Customer { shop: self, name: name.to_owned(), token, gateway: 0 }
    }

    /// A customer whose token was signed with the gateway's key elsewhere.
    pub fn customer(&self, name: &str) -> Customer<'_> {
        let token = sign(&self.issuer(), name, SystemClock.now());
        Customer { shop: self, name: name.to_owned(), token, gateway: 0 }
    }

    /// A file with an operator's token, for the command line.
    pub fn operator_token_file(&self, name: &str) -> PathBuf {
        let token = sign_as(Role::Operator, &self.issuer(), name, SystemClock.now());
        self.scratch.write(&format!("{name}.token"), &token)
    }

    /// A token of the gateway's own issuer that ended an hour ago.
    pub fn expired_token(&self, name: &str) -> String {
        sign(&self.issuer(), name, SystemClock.now() - 2 * HOUR)
    }

    /// A token that says all the right things, signed with a key that the gateway does not know.
    pub fn foreign_token(&self, name: &str) -> String {
        let issuer = Issuer::open(&self.scratch.path().join("foreign.pem"), ISSUER, AUDIENCE);
        sign(&issuer.expect("another issuer"), name, SystemClock.now())
    }

    /// A token signed with the right key for someone else's interface.
    pub fn token_for_others(&self, name: &str) -> String {
        let issuer = Issuer::open(&self.key_file(), ISSUER, "another audience");
        sign(&issuer.expect("the same key"), name, SystemClock.now())
    }

    /// Signs as the gateways do now.
    fn issuer(&self) -> Issuer {
        Issuer::open(&self.key_file(), ISSUER, AUDIENCE).expect("an issuer")
    }

    fn remember(&self, user: &str, key: &str, order: Option<Uuid>) {
        let attempt = Attempt { user: user.to_owned(), key: key.to_owned(), order };
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
    }
}

impl Customer<'_> {
    /// The same customer at another gateway.
    #[must_use]
    pub fn at(&self, gateway: usize) -> Self {
        Self { gateway, ..self.clone() }
    }

    /// The same customer with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// A request with the customer's token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.shop.url(Service::Gateway, self.gateway));
        self.shop.http.request(method, url).bearer_auth(&self.token)
    }

    /// Sends a request; none when no answer came.
    pub async fn send(&self, request: RequestBuilder) -> Option<Answer> {
        send(request).await
    }

    /// Gets a document.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await.expect("an answer")
    }

    /// Tries to place an order once; none when no answer came.
    pub async fn try_place(&self, key: &str, lines: &[Line<'_>], card: &str) -> Option<Answer> {
        let lines: Vec<Value> =
            lines.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
        let body = json!({"lines": lines, "payment_token": card});
        let request = self.request(Method::POST, "/v1/orders").header("Idempotency-Key", key);
        let answer = self.send(request.json(&body)).await;
        let promised = answer.as_ref().filter(|answer| answer.status == 202).map(Answer::id);
        self.shop.remember(&self.name, key, promised);
        answer
    }

    /// Places an order as a patient client does: the same key again after 409, 429, 5xx and
    /// silence, until it is accepted.
    pub async fn place_with_key(&self, key: &str, lines: &[Line<'_>], card: &str) -> Uuid {
        eventually(PATIENCE, "an order is accepted", async || {
            let answer = self.try_place(key, lines, card).await?;
            match answer.status {
                202 => Some(answer.id()),
                409 | 429 | 500.. => None,
                _ => panic!("refused: {} {}", answer.status, answer.body),
            }
        })
        .await
    }

    /// Places an order under a new key.
    pub async fn place(&self, lines: &[Line<'_>], card: &str) -> Uuid {
        self.place_with_key(&new_key(), lines, card).await
    }

    /// Asks for an order to be cancelled.
    pub async fn cancel(&self, order: Uuid) -> Option<Answer> {
        self.send(self.request(Method::POST, &format!("/v1/orders/{order}/cancel"))).await
    }

    /// The order as it is now.
    pub async fn order(&self, order: Uuid) -> Value {
        self.get(&format!("/v1/orders/{order}")).await.expect(200).body
    }

    /// Waits until the order has this status.
    pub async fn becomes(&self, order: Uuid, status: &str) -> Value {
        self.waits(order, status, |found| found == status).await
    }

    /// Waits until the order is completed or cancelled.
    pub async fn final_order(&self, order: Uuid) -> Value {
        let is_final = |status: &str| matches!(status, "COMPLETED" | "CANCELLED");
        self.waits(order, "final", is_final).await
    }

    async fn waits(&self, order: Uuid, what: &str, done: impl Fn(&str) -> bool) -> Value {
        let path = format!("/v1/orders/{order}");
        eventually(PATIENCE, &format!("order {order} becomes {what}"), async || {
            let answer = self.send(self.request(Method::GET, &path)).await?;
            let status = answer.body["status"].as_str()?.to_owned();
            done(&status).then_some(answer.body)
        })
        .await
    }

    /// Every event about the order, by time.
    pub async fn timeline(&self, order: Uuid) -> Vec<Value> {
        let answer = self.get(&format!("/v1/orders/{order}/timeline")).await.expect(200);
        answer.body["entries"].as_array().expect("the entries of a timeline").clone()
    }
}

fn sign(issuer: &Issuer, name: &str, at: OffsetDateTime) -> String {
    sign_as(Role::Customer, issuer, name, at)
}

fn sign_as(role: Role, issuer: &Issuer, name: &str, at: OffsetDateTime) -> String {
    let id = RandomIds(SystemClock).next();
    let token = issuer.issue(name, &[role], at, HOUR, id);
    token.expect("a token").expose_secret().to_owned()
}

/// An idempotency key that nobody used before.
pub fn new_key() -> String {
    format!("key-{}-{}", std::process::id(), KEYS.fetch_add(1, Ordering::Relaxed))
}

async fn send(request: RequestBuilder) -> Option<Answer> {
    let answer = request.send().await.ok()?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Answer { status, headers, body })
}
