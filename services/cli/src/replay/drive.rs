//! Places orders at a fixed rate, whatever becomes of the earlier ones, and follows each until it
//! is final.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    client::{Gateway, OrderView},
    file::Order,
    tally::{Counts, Tally},
};
use crate::gateway::Refusal;

/// Requests under way at once.
const PLACING: usize = 256;
const FOLLOWING: usize = 16;
/// Pauses between attempts to place, unless the answer names one, and between looks at an order.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(3);
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// What became of one order of the file.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) invoice: String,
    pub(super) customer: String,
    /// The idempotency key that it was placed with.
    pub(super) key: String,
    /// From the instant the plan has for the order to the accepting answer, repetitions included:
    /// a wait of our own, for a permit or because we are late, is part of it.
    pub(super) accepted_after: Option<Duration>,
    /// When the answer came, counted from the start of the run.
    pub(super) accepted_at: Option<Duration>,
    /// The order as it was last seen.
    pub(super) order: Option<OrderView>,
    /// Why it is not known to be final.
    pub(super) failure: Option<String>,
}

/// Numbers for the progress display.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) accepted: AtomicU64,
    pub(super) finished: AtomicU64,
}

/// How orders are sent.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Orders a second.
    pub(super) rate: f64,
    /// Makes the idempotency keys of this run its own.
    pub(super) run: String,
    /// How long an order may take to be accepted, and then to be final.
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Driver {
    gateway: Gateway,
    plan: Plan,
    start: Instant,
    placing: Semaphore,
    following: Semaphore,
    tally: Tally,
    pub(super) progress: Progress,
}

impl Driver {
    pub(super) fn new(gateway: Gateway, plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            plan,
            start: Instant::now(),
            placing: Semaphore::new(PLACING),
            following: Semaphore::new(FOLLOWING),
            tally: Tally::default(),
            progress: Progress::default(),
        })
    }

    /// Places all orders; the outcomes are in no particular order.
    ///
    /// # Errors
    /// A task of ours broke.
    pub(super) async fn run(self: &Arc<Self>, orders: Vec<Order>) -> anyhow::Result<Vec<Outcome>> {
        let mut tasks = JoinSet::new();
        let interval = Duration::from_secs_f64(1.0 / self.plan.rate);
        for (index, order) in (0_u32..).zip(orders) {
            // From the start of the run, so that delays do not add up.
            sleep_until(self.start + interval * index).await;
            let driver = Arc::clone(self);
            let due = self.start + interval * index;
            tasks.spawn(async move { driver.one(index as usize, order, due).await });
        }
        let mut outcomes = Vec::with_capacity(tasks.len());
        while let Some(outcome) = tasks.join_next().await {
            outcomes.push(outcome?);
        }
        Ok(outcomes)
    }

    /// What the requests have met.
    pub(super) fn counts(&self) -> Counts {
        self.tally.counts()
    }

    fn key(&self, order: &Order) -> String {
        format!("replay-{}-{}", self.plan.run, order.invoice)
    }

    async fn one(&self, index: usize, order: Order, due: Instant) -> Outcome {
        let mut outcome = Outcome {
            invoice: order.invoice.clone(),
            customer: order.customer.clone(),
            key: self.key(&order),
            accepted_after: None,
            accepted_at: None,
            order: None,
            failure: None,
        };
        match self.place(index, &order, due).await {
            Ok((view, took)) => {
                outcome.accepted_after = Some(took);
                outcome.accepted_at = Some(self.start.elapsed());
                self.progress.accepted.fetch_add(1, Ordering::Relaxed);
                let (last, failure) = self.follow(index, &order.customer, view).await;
                outcome.order = Some(last);
                outcome.failure = failure;
            }
            Err(why) => outcome.failure = Some(format!("not accepted: {why}")),
        }
        self.progress.finished.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Repeats the same request with the same key until it is accepted or refused for good.
    async fn place(
        &self,
        index: usize,
        order: &Order,
        due: Instant,
    ) -> Result<(OrderView, Duration), String> {
        let key = self.key(order);
        // The provider's tokens are for one use, and the prefix decides: this card is good.
        let token = format!("tok_ok_{}_{}", self.plan.run, order.invoice);
        let mut pause = FIRST_RETRY;
        for attempt in 0.. {
            let permit = self.placing.acquire().await.map_err(|error| error.to_string())?;
            let answer = self.gateway.place(index + attempt, order, &key, &token).await;
            drop(permit);
            self.tally.placing(attempt, answer.as_ref().err().map(Refusal::kind));
            let (why, after) = match answer {
                Ok(view) => return Ok((view, due.elapsed())),
                Err(Refusal::Never(why) | Refusal::Token(why)) => return Err(why),
                Err(Refusal::Later { why, after }) => (why, after),
            };
            if due.elapsed() > self.plan.patience {
                return Err(why);
            }
            sleep(after.unwrap_or(pause)).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
        Err("out of attempts".to_owned())
    }

    /// Looks at the order until it is final. How often decides nothing but our own patience: all
    /// times come from the server.
    async fn follow(
        &self,
        index: usize,
        customer: &str,
        mut view: OrderView,
    ) -> (OrderView, Option<String>) {
        let since = Instant::now();
        let mut pause = FIRST_LOOK;
        let mut turn = index;
        while !view.is_final() {
            sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_LOOK);
            turn += 1;
            let Ok(permit) = self.following.acquire().await else { break };
            let answer = self.gateway.order(turn, customer, &view.id).await;
            drop(permit);
            self.tally.looking(answer.as_ref().err().map(Refusal::kind));
            match answer {
                Ok(newer) => view = newer,
                Err(Refusal::Later { .. }) => {}
                Err(Refusal::Never(why) | Refusal::Token(why)) => return (view, Some(why)),
            }
            if since.elapsed() > self.plan.patience {
                let why = format!("still {} after {} s", view.status, since.elapsed().as_secs());
                return (view, Some(why));
            }
        }
        (view, None)
    }
}
