//! Customers: they place the orders of the plan on time, whatever becomes of the earlier ones, and
//! repeat what was not answered or refused for now, with the same key.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use futures::future::join;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::plan::Planned;
use crate::{
    gateway::{self, Refusal, answer},
    local::Role,
    token::Signer,
};

const TOKEN_TTL: Duration = Duration::from_mins(5);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
struct OrderView {
    id: String,
    status: String,
}

/// What the customers met.
#[derive(Clone, Debug, Default)]
pub(super) struct Met {
    pub(super) accepted: u64,
    /// Requests to place an order, repetitions included.
    pub(super) attempts: u64,
    /// Why attempts were not accepted.
    pub(super) refused: BTreeMap<String, u64>,
    /// Orders that nobody accepted, and why.
    pub(super) lost: Vec<String>,
}

/// How the shop is reached.
#[derive(Debug)]
pub(super) struct Customers {
    http: reqwest::Client,
    bases: Vec<String>,
    signer: Signer,
    /// What was asked for and what was answered, for the auditor.
    requests: Mutex<File>,
    met: Mutex<Met>,
}

impl Customers {
    /// # Errors
    /// The file of requests cannot be made, or no client can.
    pub(super) fn new(
        gateways: &[String],
        signer: Signer,
        requests: &Path,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            http: gateway::client()?,
            bases: gateways.iter().map(|url| gateway::base(url)).collect::<Result<_, _>>()?,
            signer,
            requests: Mutex::new(File::create(requests).context("no file of requests")?),
            met: Mutex::default(),
        }))
    }

    /// Places one order and waits until it is completed: from then on everything is under way.
    ///
    /// # Errors
    /// It is not completed by `deadline`.
    pub(super) async fn first(&self, order: &Planned, deadline: Instant) -> anyhow::Result<()> {
        let id = self.placed(order, deadline).await?;
        let status = self.ended(order, &id, deadline).await?;
        ensure!(status == "COMPLETED", "the first order is {status}");
        Ok(())
    }

    /// Places an order, however often it takes.
    ///
    /// # Errors
    /// It is not accepted by `deadline`.
    pub(super) async fn placed(
        &self,
        order: &Planned,
        deadline: Instant,
    ) -> anyhow::Result<String> {
        let placed = self.place(0, order, deadline).await?;
        placed.map_err(|why| anyhow!("{} is not accepted: {why}", order.key))
    }

    /// Waits until an order is final, and says how.
    ///
    /// # Errors
    /// It is not by `deadline`.
    pub(super) async fn ended(
        &self,
        order: &Planned,
        id: &str,
        deadline: Instant,
    ) -> anyhow::Result<String> {
        for turn in 0.. {
            let request = self.http.get(self.url(turn, &format!("/v1/orders/{id}")));
            let seen = self.ask(request, &order.user).await?.map(|order| order.status);
            match seen {
                Ok(status) if matches!(status.as_str(), "COMPLETED" | "CANCELLED") => {
                    return Ok(status);
                }
                _ if Instant::now() >= deadline => bail!("{id} is not final: {seen:?}"),
                Ok(_) | Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
        bail!("{id} is not final")
    }

    /// Cancels an order, however often it takes.
    ///
    /// # Errors
    /// Nobody answers by `deadline`.
    pub(super) async fn cancelled(
        &self,
        order: &Planned,
        id: &str,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        for turn in 0.. {
            let request = self.http.post(self.url(turn, &format!("/v1/orders/{id}/cancel")));
            match self.ask(request, &order.user).await? {
                // Too late is an answer, too.
                Ok(_) | Err(Refusal::Never(_)) => return Ok(()),
                Err(refusal) if Instant::now() >= deadline => {
                    bail!("{id} cannot be cancelled: {}", refusal.why())
                }
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
        bail!("{id} cannot be cancelled")
    }

    /// Places `orders` from `start` on, one every `interval`. An order may be repeated until
    /// `deadline`.
    ///
    /// # Errors
    /// A task of ours broke.
    pub(super) async fn run(
        self: Arc<Self>,
        orders: Vec<Planned>,
        start: Instant,
        interval: Duration,
        deadline: Instant,
    ) -> anyhow::Result<Met> {
        let mut tasks = JoinSet::new();
        for (index, order) in (0_u32..).zip(orders) {
            sleep_until(start + interval * index).await;
            let customers = Arc::clone(&self);
            tasks.spawn(async move { customers.one(index as usize, order, deadline).await });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(self.met().clone())
    }

    async fn one(&self, index: usize, order: Planned, deadline: Instant) -> anyhow::Result<()> {
        let id = match self.place(index, &order, deadline).await? {
            Ok(id) => id,
            Err(why) => {
                self.met().lost.push(format!("{} of {}: {why}", order.key, order.user));
                return Ok(());
            }
        };
        self.met().accepted += 1;
        if order.again {
            // What it is answered is written down, and that is enough.
            let _noted = self.attempt(index + 1, &order).await?;
        }
        if let Some(pause) = order.cancel_after {
            sleep(pause).await;
            // It may be too late, or nobody may answer: either is fine.
            let _either = join(
                self.cancel(index, &order.user, &id),
                self.cancel(index + 1, &order.user, &id),
            )
            .await;
        }
        Ok(())
    }

    /// The order that was accepted, or why none was.
    async fn place(
        &self,
        index: usize,
        order: &Planned,
        deadline: Instant,
    ) -> anyhow::Result<Result<String, String>> {
        let mut pause = FIRST_RETRY;
        for attempt in 0.. {
            let answered = if order.twice && attempt == 0 {
                let both = join(self.attempt(index, order), self.attempt(index + 1, order)).await;
                let (first, second) = (both.0?, both.1?);
                first.or(second)
            } else {
                self.attempt(index + attempt, order).await?
            };
            let (why, after) = match answered {
                Ok(id) => return Ok(Ok(id)),
                Err(Refusal::Never(why)) => return Ok(Err(why)),
                Err(Refusal::Token(why)) => (why, None),
                Err(Refusal::Later { why, after }) => (why, after),
            };
            if Instant::now() >= deadline {
                return Ok(Err(why));
            }
            sleep(after.unwrap_or(pause).min(LONGEST_RETRY)).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
        Ok(Err("out of attempts".to_owned()))
    }

    /// Asks once, and writes down how it went.
    async fn attempt(
        &self,
        turn: usize,
        order: &Planned,
    ) -> anyhow::Result<Result<String, Refusal>> {
        let lines: Vec<_> = order
            .lines
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let request = self
            .http
            .post(self.url(turn, "/v1/orders"))
            .header("Idempotency-Key", &order.key)
            .json(&json!({"lines": lines, "payment_token": order.card}));
        let answered = self.ask(request, &order.user).await?.map(|order| order.id);
        self.note(order, &answered)?;
        Ok(answered)
    }

    async fn cancel(&self, turn: usize, user: &str, id: &str) -> anyhow::Result<()> {
        let request = self.http.post(self.url(turn, &format!("/v1/orders/{id}/cancel")));
        self.ask(request, user).await.map(|_| ())
    }

    async fn ask(
        &self,
        request: RequestBuilder,
        user: &str,
    ) -> anyhow::Result<Result<OrderView, Refusal>> {
        let token = self.signer.sign(user, Role::Customer, TOKEN_TTL)?;
        let answered = answer::<OrderView>(request.bearer_auth(token.expose_secret()).send().await);
        Ok(answered.await.map(|answer| answer.body))
    }

    fn url(&self, turn: usize, path: &str) -> String {
        let base = self.bases.get(turn % self.bases.len().max(1)).map_or("", String::as_str);
        format!("{base}{path}")
    }

    fn note(&self, order: &Planned, answered: &Result<String, Refusal>) -> anyhow::Result<()> {
        {
            let mut met = self.met();
            met.attempts += 1;
            if let Err(refusal) = answered {
                *met.refused.entry(refusal.kind().to_owned()).or_default() += 1;
            }
        }
        let line = json!({"user": order.user, "key": order.key, "order": answered.as_ref().ok()});
        let mut file = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{line}").context("the file of requests")
    }

    fn met(&self) -> std::sync::MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
