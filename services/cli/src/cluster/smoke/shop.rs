//! What the gateway is asked.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use reqwest::{RequestBuilder, header::HeaderMap};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    gateway::{self, Answer, Refusal, answer, patiently},
    users::User,
};

/// A gateway and a customer's token.
#[derive(Debug)]
pub(super) struct Shop {
    http: reqwest::Client,
    base: String,
    token: SecretString,
    patience: Duration,
}

#[derive(Debug, Deserialize)]
pub(super) struct Product {
    pub(super) sku: String,
    pub(super) name: String,
    pub(super) available: i64,
}

#[derive(Debug, Deserialize)]
struct Page {
    products: Vec<Product>,
}

/// An accepted order.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) id: String,
    pub(super) sku: String,
    /// The trace of the answer.
    pub(super) trace_id: String,
    /// Whether the answer says that it was given before.
    pub(super) replayed: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Order {
    id: String,
    pub(super) status: Status,
    pub(super) cancel_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(from = "String")]
pub(super) enum Status {
    Completed,
    Cancelled,
    Other(String),
}

impl From<String> for Status {
    fn from(text: String) -> Self {
        match text.as_str() {
            "COMPLETED" => Self::Completed,
            "CANCELLED" => Self::Cancelled,
            _ => Self::Other(text),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Timeline {
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    source: String,
    #[serde(default)]
    pub(super) trace_id: String,
}

impl Timeline {
    /// The services that it tells of.
    pub(super) fn sources(&self) -> BTreeSet<String> {
        let name = |entry: &Entry| entry.source.rsplit('/').next().map(str::to_owned);
        self.entries.iter().filter_map(name).collect()
    }
}

impl Shop {
    pub(super) fn new(
        gateway: &str,
        token: SecretString,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Self { http: gateway::client()?, base: gateway::base(gateway)?, token, patience })
    }

    /// As the first of the users who may place orders; with the name.
    ///
    /// # Errors
    /// Somebody cannot log in, or nobody may.
    pub(super) async fn log_in(
        gateway: &str,
        users: Vec<User>,
        patience: Duration,
    ) -> anyhow::Result<(Self, String)> {
        let mut shop = Self::new(gateway, SecretString::default(), patience)?;
        for User { name, password } in users {
            let token = shop
                .patiently(|| gateway::log_in(&shop.http, &shop.base, &name, &password))
                .await
                .with_context(|| format!("{name} cannot log in at {gateway}"))?
                .text;
            let customer = shop
                .patiently(|| gateway::is_customer(&shop.http, &shop.base, &token))
                .await
                .with_context(|| format!("{name}'s orders cannot be read"))?;
            if customer {
                shop.token = token;
                return Ok((shop, name));
            }
        }
        bail!("none of the users is a customer")
    }

    /// How long a step may take.
    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    async fn patiently<T, F>(&self, ask: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let answered = patiently(Instant::now() + self.patience, ask).await;
        answered.map_err(|refusal| anyhow!(refusal.why().to_owned()))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> anyhow::Result<Answer<T>> {
        self.patiently(|| async {
            answer(request().bearer_auth(self.token.expose_secret()).send().await).await
        })
        .await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.base);
        Ok(self.ask(|| self.http.get(&url)).await?.body)
    }

    /// Something that can be ordered.
    pub(super) async fn product(&self) -> anyhow::Result<Product> {
        let page: Page = self.get("/v1/products?limit=100").await?;
        let product = page.products.into_iter().find(|product| product.available > 0);
        product.context("nothing of the first hundred products is in stock: seed first")
    }

    /// Orders one piece.
    pub(super) async fn place(&self, sku: &str, key: &str) -> anyhow::Result<Placed> {
        // The prefix decides what the provider does: this card is good.
        let body = json!({
            "lines": [{"sku": sku, "quantity": 1}],
            "payment_token": format!("tok_ok_{key}"),
        });
        let url = format!("{}/v1/orders", self.base);
        let request = || self.http.post(&url).header("Idempotency-Key", key).json(&body);
        let Answer { headers, body } = self.ask::<Order>(request).await?;
        Ok(Placed {
            id: body.id,
            sku: sku.to_owned(),
            trace_id: header(&headers, "x-trace-id").context("the answer names no trace")?,
            replayed: header(&headers, "idempotency-replayed").as_deref() == Some("true"),
        })
    }

    pub(super) async fn order(&self, id: &str) -> anyhow::Result<Order> {
        self.get(&format!("/v1/orders/{id}")).await
    }

    pub(super) async fn timeline(&self, id: &str) -> anyhow::Result<Timeline> {
        self.get(&format!("/v1/orders/{id}/timeline")).await
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
