use std::{collections::BTreeMap, sync::Arc};

use portolan_kernel::{Clock, IdGen, OrderId};
use portolan_messaging::{Outgoing, Waker, outbox};
use portolan_runtime::{database, failpoint, telemetry::TraceContext};
use sqlx::PgPool;

use crate::{
    domain::{Answer, Backoff, Call, Change, Effect, Impossible, Payment},
    events, store,
};

/// What the provider said to a call.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The order.
    pub order: OrderId,
    /// Which call it was.
    pub call: Call,
    /// What it said.
    pub answer: Answer,
    /// The trace context of the call.
    pub trace: TraceContext,
}

/// Writes the provider's answers down.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The service's database.
    pub pool: PgPool,
    /// When things happen.
    pub clock: Arc<dyn Clock>,
    /// The ids of events.
    pub ids: Arc<dyn IdGen>,
    /// Whom to wake when there are events.
    pub waker: Waker,
    /// How long to wait after an unknown outcome.
    pub backoff: Backoff,
}

/// A payment, the version it was read with, and whether it is to be written.
struct Touched {
    payment: Payment,
    read: i64,
    changed: bool,
}

/// What follows from a batch of answers.
#[derive(Default)]
struct Outcome {
    events: Vec<Outgoing>,
    entries: Vec<store::Entry>,
}

impl Settlement {
    /// Applies answers to the payments as they are now: state, money and events in one
    /// transaction. Answers that come late or twice change nothing.
    ///
    /// # Errors
    /// The database's; nothing was applied, and the leases will end by themselves.
    pub async fn settle(&self, answers: &[Answered]) -> Result<(), store::Error> {
        let mut tx = database::begin(&self.pool).await?;
        let mut orders: Vec<OrderId> = answers.iter().map(|answered| answered.order).collect();
        orders.sort_unstable();
        orders.dedup();
        let mut touched: BTreeMap<OrderId, Touched> = store::lock(&mut tx, &orders)
            .await?
            .into_iter()
            .map(|(order, payment)| {
                let read = payment.version;
                (order, Touched { payment, read, changed: false })
            })
            .collect();
        let mut outcome = Outcome::default();
        for answered in answers {
            if let Some(touched) = touched.get_mut(&answered.order) {
                self.apply(touched, answered, &mut outcome);
            }
        }
        let changed: Vec<(&Payment, i64)> =
            touched.values().filter(|t| t.changed).map(|t| (&t.payment, t.read)).collect();
        store::update(&mut tx, &changed).await?;
        store::record(&mut tx, &outcome.entries).await?;
        outbox::append(&mut tx, &outcome.events).await?;
        failpoint!("settle:before-commit");
        tx.commit().await?;
        failpoint!("settle:after-commit");
        if !outcome.events.is_empty() {
            self.waker.wake();
        }
        Ok(())
    }

    fn apply(&self, touched: &mut Touched, answered: &Answered, outcome: &mut Outcome) {
        let before = touched.payment.status;
        match touched.payment.answer(answered.call, &answered.answer, self.backoff) {
            Ok(Effect::Changed(change)) => {
                touched.changed = true;
                self.follow(&touched.payment, change, &answered.trace, outcome);
                metrics::counter!("portolan_payment_transitions_total", "to" => change.to.as_str())
                    .increment(1);
                tracing::info!(
                    order.id = %answered.order,
                    from = before.as_str(),
                    to = change.to.as_str(),
                    "payment changed"
                );
            }
            Ok(Effect::Postponed) => touched.changed = true,
            Ok(Effect::Ignored) => {
                metrics::counter!("portolan_payment_ignored_total", "status" => before.as_str())
                    .increment(1);
            }
            Err(impossible) => self.alert(touched, answered, impossible),
        }
    }

    fn follow(
        &self,
        payment: &Payment,
        change: Change,
        trace: &TraceContext,
        outcome: &mut Outcome,
    ) {
        if let Some((kind, amount)) = change.ledger.zip(payment.amount) {
            outcome.entries.push(store::Entry { order: payment.order, kind, amount });
        }
        if change.tell {
            let stamp = events::Stamp { id: self.ids.next(), at: self.clock.now(), trace };
            outcome.events.extend(events::tell(payment, &stamp));
        }
    }

    /// The provider contradicts what we know. Nothing is changed on its word; if the payment still
    /// waits for this very call, it is asked again later, and somebody must look.
    fn alert(&self, touched: &mut Touched, answered: &Answered, impossible: Impossible) {
        metrics::counter!(
            "portolan_payment_impossible_total",
            "event" => impossible.event.as_str(),
        )
        .increment(1);
        tracing::error!(
            order.id = %answered.order,
            error = %impossible,
            answer = ?answered.answer,
            "the provider contradicts what is known"
        );
        let again = touched.payment.answer(answered.call, &Answer::Unknown, self.backoff);
        touched.changed |= again == Ok(Effect::Postponed);
    }
}
