//! The gateway as a customer sees it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::{RequestBuilder, Response, StatusCode, header::RETRY_AFTER};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::file::Order;
use crate::{local::Role, token::Signer};

/// A token is for one request; this leaves room for one that waits.
const TOKEN_TTL: Duration = Duration::from_mins(5);
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often, and how far apart, a page of products is asked for: a process that was just killed
/// is back soon.
const ATTEMPTS: usize = 30;
const PAUSE: Duration = Duration::from_secs(1);
/// Products to a page: the most there can be.
const PAGE: &str = "100";

/// An amount as the API gives it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Money {
    pub(super) minor_units: i64,
}

/// What a replay needs to know of an order.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OrderView {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) amount: Money,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) updated_at: OffsetDateTime,
    #[serde(default)]
    pub(super) cancel_reason: Option<String>,
}

impl OrderView {
    pub(super) fn completed(&self) -> bool {
        self.status.eq_ignore_ascii_case("completed")
    }

    /// Whether nothing will change any more.
    pub(super) fn is_final(&self) -> bool {
        self.completed() || self.status.eq_ignore_ascii_case("cancelled")
    }
}

#[derive(Debug, Deserialize)]
struct ProductView {
    sku: String,
    available: i64,
}

#[derive(Debug, Deserialize)]
struct Page {
    products: Vec<ProductView>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

/// An answer that is not the wanted one.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The same request may succeed later: why, for counting, and when, if the answer says so.
    Later { why: String, after: Option<Duration> },
    /// It will not.
    Never(String),
}

/// The gateway, or several replicas of it in turn.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    http: reqwest::Client,
    bases: Vec<String>,
    signer: Signer,
}

impl Gateway {
    /// # Errors
    /// There is no address, or no client can be made.
    pub(super) fn new(bases: &[String], signer: Signer) -> anyhow::Result<Self> {
        if bases.is_empty() {
            bail!("there is no gateway to send orders to");
        }
        let bases = bases.iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
        Ok(Self { http: portolan_runtime::http_client(TIMEOUT)?, bases, signer })
    }

    fn url(&self, turn: usize, path: &str) -> String {
        let base = self.bases.get(turn % self.bases.len()).map_or("", String::as_str);
        format!("{base}{path}")
    }

    fn signed(&self, request: RequestBuilder, user: &str) -> Result<RequestBuilder, Refusal> {
        match self.signer.sign(user, Role::Customer, TOKEN_TTL) {
            Ok(token) => Ok(request.bearer_auth(token.expose_secret())),
            Err(error) => Err(Refusal::Never(format!("{error:#}"))),
        }
    }

    /// Places an order once.
    pub(super) async fn place(
        &self,
        turn: usize,
        order: &Order,
        key: &str,
        payment_token: &str,
    ) -> Result<OrderView, Refusal> {
        let lines: Vec<_> = order
            .lines
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let request = self
            .http
            .post(self.url(turn, "/v1/orders"))
            .header("Idempotency-Key", key)
            .json(&json!({"lines": lines, "payment_token": payment_token}));
        answer(self.signed(request, &order.customer)?.send().await).await
    }

    /// One order of a customer.
    pub(super) async fn order(
        &self,
        turn: usize,
        customer: &str,
        id: &str,
    ) -> Result<OrderView, Refusal> {
        let request = self.http.get(self.url(turn, &format!("/v1/orders/{id}")));
        answer(self.signed(request, customer)?.send().await).await
    }

    /// How much of every product is available.
    ///
    /// # Errors
    /// The gateway does not answer, even when asked again for a while.
    pub(super) async fn stock(&self) -> anyhow::Result<BTreeMap<String, i64>> {
        let mut stock = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self.page(&cursor).await.context("the products cannot be listed")?;
            stock.extend(page.products.into_iter().map(|product| (product.sku, product.available)));
            match page.next_cursor {
                Some(next) if !next.is_empty() => cursor = next,
                _ => return Ok(stock),
            }
        }
    }

    /// One page of products, asked of the replicas in turn while they refuse only for now.
    async fn page(&self, cursor: &str) -> anyhow::Result<Page> {
        let mut query = vec![("limit", PAGE)];
        if !cursor.is_empty() {
            query.push(("cursor", cursor));
        }
        let mut turn = 0;
        loop {
            let request = self.http.get(self.url(turn, "/v1/products")).query(&query);
            turn += 1;
            match answer(request.send().await).await {
                Ok(page) => return Ok(page),
                Err(Refusal::Later { after, .. }) if turn < ATTEMPTS => {
                    sleep(after.unwrap_or(PAUSE).min(PAUSE)).await;
                }
                Err(Refusal::Later { why, .. } | Refusal::Never(why)) => bail!(why),
            }
        }
    }
}

/// The body of a successful answer.
async fn answer<T: serde::de::DeserializeOwned>(
    result: reqwest::Result<Response>,
) -> Result<T, Refusal> {
    let lost = |error: &reqwest::Error| Refusal::Later {
        why: if error.is_timeout() { "no answer in time" } else { "connection lost" }.to_owned(),
        after: None,
    };
    let response = result.map_err(|error| lost(&error))?;
    let status = response.status();
    let after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = response.bytes().await.map_err(|error| lost(&error))?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| Refusal::Never(format!("an unexpected body: {error}")));
    }
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
    Err(refusal(status, after, &problem))
}

fn refusal(status: StatusCode, after: Option<Duration>, problem: &Problem) -> Refusal {
    let why = format!("{} {}", status.as_u16(), problem.code);
    let later = match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => true,
        // The user's lock is held, or too many orders are open: both pass, and say when to come
        // back.
        StatusCode::CONFLICT => after.is_some(),
        _ => false,
    };
    if later {
        Refusal::Later { why, after }
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
}
