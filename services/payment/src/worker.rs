//! Calls the provider: claims due jobs, asks, writes the answers down.
//!
//! - No transaction is open while the provider is being asked.
//! - A job is claimed for the time of a lease; its attempt is counted before the call. Two workers
//!   that hold the same job, because one of them slept through its lease, ask the same question
//!   with the same key, and the second answer finds a payment that has moved on.
//! - Jobs are handed over in memory right after the transaction that made them. The table is
//!   scanned as well, for what was lost on the way and what is to be repeated.
//! - Repetitions never take more than half of the calls, so that a few cards that hang do not hold
//!   up everybody else's first attempt.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use portolan_kernel::OrderId;
use portolan_runtime::telemetry::TraceContext;
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{
    app::{Answered, Settlement},
    config::ProviderConfig,
    domain::Answer,
    provider::Provider,
    store::{self, Due, Job},
};

const SCAN_EVERY: Duration = Duration::from_millis(500);
const HAND_OVERS: usize = 256;
const SETTLE_TRIES: u32 = 3;
const SETTLE_RETRY: Duration = Duration::from_millis(200);

/// Where the consumer leaves new jobs. If the worker cannot keep up they are dropped here and
/// found by its scan.
#[derive(Clone, Debug)]
pub struct Jobs(mpsc::Sender<Vec<OrderId>>);

impl Jobs {
    /// Leaves the payments of these orders to the worker.
    pub fn hand_over(&self, orders: Vec<OrderId>) {
        if !orders.is_empty() && self.0.try_send(orders).is_err() {
            metrics::counter!("portolan_payment_handovers_dropped_total").increment(1);
        }
    }
}

/// The worker. One in each replica.
#[derive(Debug)]
pub struct Worker {
    settlement: Settlement,
    provider: Provider,
    config: ProviderConfig,
    handed_over: mpsc::Receiver<Vec<OrderId>>,
}

/// A call's answer, and whether the call was a repetition.
type Reply = (Answered, bool);

struct Round {
    calls: FuturesUnordered<BoxFuture<'static, Reply>>,
    /// How many of the calls are repetitions.
    repeated: usize,
    /// Handed over, not yet claimed.
    fresh: VecDeque<OrderId>,
    /// Whether the table may hold more that is due.
    scan: bool,
    stopping: bool,
}

impl Worker {
    /// A worker and the way to hand jobs over to it.
    pub fn new(settlement: Settlement, provider: Provider, config: ProviderConfig) -> (Self, Jobs) {
        let (sender, handed_over) = mpsc::channel(HAND_OVERS);
        (Self { settlement, provider, config, handed_over }, Jobs(sender))
    }

    /// Works until `stop`, then until the calls under way are answered and written down.
    ///
    /// # Errors
    /// None: whatever fails is tried again.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut round = Round::new();
        let mut ticks = tokio::time::interval(SCAN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(round.stopping && round.calls.is_empty()) {
            self.wait(&mut round, &mut ticks, &stop).await;
            if !round.stopping {
                self.claim(&mut round).await;
            }
        }
        Ok(())
    }

    /// Waits for one thing to happen.
    async fn wait(&mut self, round: &mut Round, ticks: &mut Interval, stop: &CancellationToken) {
        tokio::select! {
            Some(reply) = round.calls.next(), if !round.calls.is_empty() => {
                let answers = round.take(reply);
                self.settle(answers).await;
            }
            Some(orders) = self.handed_over.recv(), if round.fresh.is_empty() && !round.stopping => {
                round.fresh.extend(orders);
                while let Ok(more) = self.handed_over.try_recv() {
                    round.fresh.extend(more);
                }
            }
            _ = ticks.tick(), if !round.stopping => {
                round.scan = true;
                self.measure(round.calls.len()).await;
            }
            () = stop.cancelled(), if !round.stopping => round.stopping = true,
        }
    }

    /// Takes as many jobs as there may be calls, what was handed over first.
    async fn claim(&self, round: &mut Round) {
        let free = self.config.concurrency.saturating_sub(round.calls.len());
        if free > 0 && !round.fresh.is_empty() {
            let count = free.min(round.fresh.len());
            let orders = round.fresh.drain(..count).collect();
            self.start(round, &Due::Of(orders), count).await;
        }
        let free = self.config.concurrency.saturating_sub(round.calls.len());
        let limit = free.min(self.repetitions().saturating_sub(round.repeated));
        if round.scan && limit > 0 {
            let found = self.start(round, &Due::Any, limit).await;
            round.scan = found == limit;
        }
    }

    /// How many calls may be repetitions.
    fn repetitions(&self) -> usize {
        self.config.concurrency.div_ceil(2)
    }

    async fn start(&self, round: &mut Round, due: &Due, limit: usize) -> usize {
        match store::claim(&self.settlement.pool, due, limit, self.config.lease()).await {
            Ok(jobs) => {
                let found = jobs.len();
                for job in jobs {
                    self.call(round, job);
                }
                found
            }
            Err(error) => {
                let error = portolan_runtime::one_line(&error);
                tracing::warn!(error, "no jobs were claimed; the next scan will find them");
                0
            }
        }
    }

    fn call(&self, round: &mut Round, job: Job) {
        let repeated = job.call.attempt > 1;
        round.repeated += usize::from(repeated);
        let provider = self.provider.clone();
        let clock = Arc::clone(&self.settlement.clock);
        let span = tracing::info_span!(
            "provider",
            otel.kind = "client",
            otel.name = %format_args!("provider {}", job.call.step.as_str()),
            order.id = %job.question.order,
            attempt = job.call.attempt,
            trace_id = tracing::field::Empty,
        );
        let trace = within(&job.trace, &span);
        let call = async move {
            let started = clock.now();
            let answer = provider.ask(&job.question, &trace).await;
            observe(&job, &answer, (clock.now() - started).as_seconds_f64());
            let answered = Answered { order: job.question.order, call: job.call, answer, trace };
            (answered, repeated)
        };
        round.calls.push(call.instrument(span).boxed());
    }

    /// Writes answers down. If that fails for good the leases end by themselves and the questions
    /// are asked again.
    async fn settle(&self, answers: Vec<Answered>) {
        let Err(error) = self.settle_together(&answers).await else { return };
        let error = portolan_runtime::one_line(&error);
        tracing::warn!(error, answers = answers.len(), "answers were not written down together");
        for answered in answers {
            let order = answered.order;
            if let Err(error) = self.settlement.settle(&[answered]).await {
                let error = portolan_runtime::one_line(&error);
                tracing::error!(error, order.id = %order, "an answer was not written down");
            }
        }
    }

    async fn settle_together(&self, answers: &[Answered]) -> Result<(), store::Error> {
        let mut tries = 1;
        loop {
            let result = self.settlement.settle(answers).await;
            if result.is_ok() || tries == SETTLE_TRIES {
                return result;
            }
            tries += 1;
            tokio::time::sleep(SETTLE_RETRY).await;
        }
    }

    async fn measure(&self, in_flight: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("portolan_payment_calls_in_flight").set(in_flight as f64);
        if let Ok((waiting, age)) = store::waiting(&self.settlement.pool).await {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("portolan_payment_jobs_waiting").set(waiting as f64);
            metrics::gauge!("portolan_payment_job_oldest_seconds").set(age);
        }
    }
}

impl Round {
    fn new() -> Self {
        Self {
            calls: FuturesUnordered::new(),
            repeated: 0,
            fresh: VecDeque::new(),
            scan: true,
            stopping: false,
        }
    }

    /// This reply and all others that are there already.
    fn take(&mut self, first: Reply) -> Vec<Answered> {
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some((answered, repeated)) = next {
            self.repeated -= usize::from(repeated);
            answers.push(answered);
            next = self.calls.next().now_or_never().flatten();
        }
        answers
    }
}

/// Makes the span a part of the trace. Where spans are filtered out the trace goes on without it.
fn within(trace: &str, span: &Span) -> TraceContext {
    let parent = TraceContext::parse(trace);
    parent.set_parent(span);
    let own = TraceContext::of(span);
    if own.is_none() { parent } else { own }
}

fn observe(job: &Job, answer: &Answer, seconds: f64) {
    let step = job.call.step.as_str();
    let outcome = answer.event().as_str();
    metrics::counter!("portolan_payment_provider_calls_total", "step" => step, "outcome" => outcome)
        .increment(1);
    metrics::histogram!("portolan_payment_provider_seconds", "step" => step).record(seconds);
}

/// Keeps the check `provider` and the gauge `portolan_payment_provider_up` true while the provider
/// answers. A provider that is away makes the service degraded, not unready: nothing is lost, and
/// what needs no provider goes on.
pub async fn watch_provider(
    provider: Provider,
    check: portolan_runtime::Check,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let up = provider.is_up().await;
        metrics::gauge!("portolan_payment_provider_up").set(if up { 1.0 } else { 0.0 });
        if up {
            check.ok();
        } else {
            check.fail("the payment provider does not answer");
        }
    }
    Ok(())
}
