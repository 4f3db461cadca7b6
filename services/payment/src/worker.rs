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
//! - Each call is a task of its own: an answer that comes while the worker waits for the database
//!   is an answer, not a timeout.
//! - While the provider is away no calls are made, so that it is not hammered when it comes back.

mod breaker;
mod slots;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use portolan_kernel::OrderId;
use portolan_runtime::{Tasks, database, failpoint, telemetry::TraceContext};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use self::{
    breaker::{Breaker, Probe},
    slots::{Slot, Slots},
};
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

/// What a task of the worker has to say.
enum Reply {
    /// The answer to a call, which keeps its slot until the answer is taken.
    Call(Answered, Slot),
    /// Whether the provider answered a probe.
    Probe(bool),
}

struct Round {
    tasks: Tasks,
    stop: CancellationToken,
    replies: mpsc::Receiver<Reply>,
    /// For the tasks. There is room for every call and the one probe.
    reply: mpsc::Sender<Reply>,
    slots: Slots,
    breaker: Breaker,
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

    /// Works until the tasks are to stop, then until the calls under way are answered and written
    /// down.
    ///
    /// # Errors
    /// None: whatever fails is tried again.
    pub async fn run(mut self, tasks: Tasks) -> anyhow::Result<()> {
        let mut round = Round::new(tasks, self.config.concurrency);
        let mut ticks = tokio::time::interval(SCAN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(round.stopping && round.slots.busy() == 0) {
            self.wait(&mut round, &mut ticks).await;
            if !round.stopping && !round.breaker.is_open() {
                self.claim(&mut round).await;
            }
        }
        Ok(())
    }

    /// Waits for one thing to happen.
    async fn wait(&mut self, round: &mut Round, ticks: &mut Interval) {
        tokio::select! {
            Some(reply) = round.replies.recv() => {
                let answers = self.take(round, reply);
                self.settle(answers).await;
            }
            Some(orders) = self.handed_over.recv(), if round.fresh.is_empty() && !round.stopping => {
                round.fresh.extend(orders);
                while let Ok(more) = self.handed_over.try_recv() {
                    round.fresh.extend(more);
                }
            }
            // While stopping as well: a call that panicked leaves nothing but its slot.
            _ = ticks.tick() => {
                round.scan = true;
                self.measure(round).await;
            }
            () = round.stop.cancelled(), if !round.stopping => round.stopping = true,
        }
    }

    /// The answer in this reply and in all others that are there already.
    fn take(&self, round: &mut Round, first: Reply) -> Vec<Answered> {
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(reply) = next {
            let probe = match reply {
                Reply::Call(answered, slot) => {
                    drop(slot);
                    let known = answered.answer != Answer::Unknown;
                    answers.push(answered);
                    round.breaker.heard(known)
                }
                Reply::Probe(up) => round.breaker.probed(up),
            };
            match probe {
                Probe::None => {}
                Probe::Now => self.probe(round, Duration::ZERO),
                Probe::AfterPause => self.probe(round, self.config.backoff().cap),
            }
            next = round.replies.try_recv().ok();
        }
        answers
    }

    /// Takes as many jobs as there may be calls, what was handed over first.
    async fn claim(&self, round: &mut Round) {
        let count = round.slots.for_handed(round.scan).min(round.fresh.len());
        if count > 0 {
            let orders = round.fresh.drain(..count).collect();
            self.start(round, &Due::Of(orders), count).await;
        }
        let limit = round.slots.for_scan();
        if round.scan && limit > 0 {
            let found = self.start(round, &Due::Any, limit).await;
            round.scan = found == limit;
        }
    }

    async fn start(&self, round: &Round, due: &Due, limit: usize) -> usize {
        let claimed = store::claim(&self.settlement.pool, due, limit, self.config.lease());
        match database::in_time(claimed).await {
            Ok(jobs) => {
                let found = jobs.len();
                let handed = matches!(due, Due::Of(_));
                for job in jobs {
                    failpoint!("claim:after-commit");
                    let slot = round.slots.take(handed, job.call.attempt > 1);
                    self.call(round, job, slot);
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

    fn call(&self, round: &Round, job: Job, slot: Slot) {
        let provider = self.provider.clone();
        let clock = Arc::clone(&self.settlement.clock);
        let span = tracing::info_span!(
            "provider",
            otel.kind = "client",
            otel.name = %format_args!("provider {}", job.call.step.as_str()),
            // The outcome is unknown: that is what goes wrong here.
            otel.status_code = tracing::field::Empty,
            peer.service = "portolan-psp",
            order.id = %job.question.order,
            attempt = job.call.attempt,
            trace_id = tracing::field::Empty,
        );
        let trace = within(&job.trace, &span);
        let reply = round.reply.clone();
        let call = async move {
            let started = clock.now();
            failpoint!("provider:before-call");
            let answer = provider.ask(&job.question, &trace).await;
            failpoint!("provider:after-call");
            observe(&job, &answer, (clock.now() - started).as_seconds_f64());
            if answer == Answer::Unknown {
                Span::current().record("otel.status_code", "ERROR");
            }
            let answered = Answered { order: job.question.order, call: job.call, answer, trace };
            // Fails only if the worker is gone, and then the lease ends by itself.
            let _ = reply.send(Reply::Call(answered, slot)).await;
        };
        round.tasks.spawn_request(call.instrument(span));
    }

    /// Finds out, after a pause, whether the provider answers at all.
    fn probe(&self, round: &Round, pause: Duration) {
        let provider = self.provider.clone();
        let (reply, stop) = (round.reply.clone(), round.stop.clone());
        let probe = async move {
            tokio::time::sleep(pause).await;
            let _ = reply.send(Reply::Probe(provider.check().await.is_ok())).await;
        };
        round.tasks.spawn_request(async move {
            stop.run_until_cancelled(probe).await;
        });
    }

    /// Writes answers down. If that fails for good the leases end by themselves and the questions
    /// are asked again.
    async fn settle(&self, answers: Vec<Answered>) {
        if answers.is_empty() {
            return;
        }
        let Err(error) = self.settle_together(&answers).await else { return };
        let error = portolan_runtime::one_line(&error);
        tracing::warn!(error, answers = answers.len(), "answers were not written down together");
        self.settle_each(answers).await;
    }

    async fn settle_together(&self, answers: &[Answered]) -> Result<(), store::Error> {
        let mut tries = 1;
        loop {
            let result = database::in_time(self.settlement.settle(answers)).await;
            if result.is_ok() || tries == SETTLE_TRIES {
                return result;
            }
            tries += 1;
            tokio::time::sleep(SETTLE_RETRY).await;
        }
    }

    /// So that one answer that cannot be written down does not take the others with it. If it is
    /// the database that is away the others are not even tried: each would wait as long as the
    /// first, and a shutdown would not end in time.
    async fn settle_each(&self, answers: Vec<Answered>) {
        let mut answers = answers.into_iter();
        while let Some(answered) = answers.next() {
            let order = answered.order;
            let settled = database::in_time(self.settlement.settle(&[answered])).await;
            let Err(error) = settled else { continue };
            let away = error.is_outage();
            let error = portolan_runtime::one_line(&error);
            tracing::error!(error, order.id = %order, "an answer was not written down");
            if away {
                let lost = answers.len();
                tracing::error!(answers = lost, "the other answers were not written down either");
                return;
            }
        }
    }

    async fn measure(&self, round: &Round) {
        let open = if round.breaker.is_open() { 1.0 } else { 0.0 };
        metrics::gauge!("portolan_payment_provider_open").set(open);
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("portolan_payment_calls_in_flight").set(round.slots.busy() as f64);
        if round.stopping {
            return;
        }
        if let Ok((waiting, age)) = database::in_time(store::waiting(&self.settlement.pool)).await {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("portolan_payment_jobs_waiting").set(waiting as f64);
            metrics::gauge!("portolan_payment_job_oldest_seconds").set(age);
        }
    }
}

impl Round {
    fn new(tasks: Tasks, concurrency: usize) -> Self {
        let (reply, replies) = mpsc::channel(concurrency + 1);
        Self {
            stop: tasks.soft(),
            tasks,
            replies,
            reply,
            slots: Slots::new(concurrency),
            breaker: Breaker::new(concurrency),
            fresh: VecDeque::new(),
            scan: true,
            stopping: false,
        }
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
        let found = provider.check().await;
        let up = if found.is_ok() { 1.0 } else { 0.0 };
        metrics::gauge!("portolan_payment_provider_up").set(up);
        match found {
            Ok(()) => check.ok(),
            Err(trouble) => check.fail(trouble.to_string()),
        }
    }
    Ok(())
}
