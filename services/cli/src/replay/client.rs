//! The gateway as a customer sees it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use reqwest::RequestBuilder;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{customers::Customers, file::Order};
use crate::gateway::{self, Refusal, answer, patiently};

/// How long a page of products is asked for: a process that was just killed is back soon.
const PATIENCE: Duration = Duration::from_secs(30);
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

/// The gateway, or several replicas of it in turn.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    http: reqwest::Client,
    bases: Vec<String>,
    customers: Customers,
    /// Whether any of our tokens was ever accepted.
    accepted: Arc<AtomicBool>,
}

impl Gateway {
    /// # Errors
    /// There is no address, or no client can be made.
    pub(super) fn new(bases: &[String], customers: Customers) -> anyhow::Result<Self> {
        if bases.is_empty() {
            bail!("there is no gateway to send orders to");
        }
        let bases = bases.iter().map(|url| gateway::base(url)).collect::<Result<_, _>>()?;
        Ok(Self { http: gateway::client()?, bases, customers, accepted: Arc::default() })
    }

    fn url(&self, turn: usize, path: &str) -> String {
        let base = self.bases.get(turn % self.bases.len()).map_or("", String::as_str);
        format!("{base}{path}")
    }

    /// Sends a request of `user`.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        user: &str,
    ) -> Result<T, Refusal> {
        let token = self.customers.token(user).await?;
        match answer(request.bearer_auth(token.expose_secret()).send().await).await {
            Ok(answer) => {
                self.accepted.store(true, Ordering::Relaxed);
                Ok(answer.body)
            }
            Err(Refusal::Token(why)) => {
                self.customers.renew(user).await;
                Err(token_refused(why, self.accepted.load(Ordering::Relaxed)))
            }
            Err(refusal) => Err(refusal),
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
        let _turn = self.customers.turn(&order.customer).await;
        let request = self
            .http
            .post(self.url(turn, "/v1/orders"))
            .header("Idempotency-Key", key)
            .json(&json!({"lines": lines, "payment_token": payment_token}));
        self.ask(request, &order.customer).await
    }

    /// One order of a customer.
    pub(super) async fn order(
        &self,
        turn: usize,
        customer: &str,
        id: &str,
    ) -> Result<OrderView, Refusal> {
        let request = self.http.get(self.url(turn, &format!("/v1/orders/{id}")));
        self.ask(request, customer).await
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
        let page = patiently(Instant::now() + PATIENCE, || {
            let request = self.http.get(self.url(turn, "/v1/products")).query(&query);
            turn += 1;
            async move { answer(request.send().await).await }
        });
        match page.await {
            Ok(page) => Ok(page.body),
            Err(refusal) => bail!(refusal.why().to_owned()),
        }
    }
}

/// A token that is refused after others were accepted meets an issuer whose key is being changed:
/// the gateway and we hear of the new one at different times.
fn token_refused(why: String, others_accepted: bool) -> Refusal {
    if others_accepted { Refusal::Later { why, after: None } } else { Refusal::Never(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_tokens_have_counted_may_a_refused_one_count_later() {
        let refused = |accepted| token_refused("401 invalid_token".to_owned(), accepted);
        assert!(matches!(refused(true), Refusal::Later { .. }));
        assert!(matches!(refused(false), Refusal::Never(_)));
    }
}
