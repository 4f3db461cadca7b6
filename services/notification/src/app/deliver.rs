//! Hands messages to the mail server: claim and count the attempt, commit, send outside any
//! transaction, write the result back. A process that dies in between leaves a lease that runs
//! out, and the next attempt carries the same `Message-ID`.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use portolan_kernel::{Clock, IdGen};
use portolan_messaging::{Outgoing, Waker, outbox};
use portolan_proto::{
    events::v1::{NotificationFailed, NotificationSent},
    notification::v1::NotificationKind,
};
use portolan_runtime::{database, telemetry::TraceContext};
use sqlx::PgPool;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{
    domain::{Kind, Next, RetryPolicy, Verdict, message_id, next},
    mail::{Mail, Mailer},
    store::{self, Claimed, Finished},
};

/// A notification reports one change of itself to others: its end.
pub(super) const VERSION: i64 = 1;

/// How often to look for notifications that are due, when nothing wakes the worker.
const TICK: Duration = Duration::from_secs(1);
/// The pause after the database failed.
const DATABASE_PAUSE: Duration = Duration::from_millis(500);

/// The worker that sends.
#[derive(Debug)]
pub struct Delivery {
    /// The service's database.
    pub pool: PgPool,
    /// Who hands over.
    pub mailer: Mailer,
    /// How to try again.
    pub policy: RetryPolicy,
    /// How many at once.
    pub concurrency: u32,
    /// How long a claim holds; longer than an attempt can take.
    pub lease: Duration,
    /// The time that events carry.
    pub clock: Arc<dyn Clock>,
    /// The ids of events.
    pub ids: Arc<dyn IdGen>,
    /// Notified when there is something new.
    pub wake: Arc<Notify>,
    /// Told when there is something to publish.
    pub relay: Waker,
}

struct Attempt {
    claimed: Claimed,
    verdict: Verdict,
    span: Span,
}

impl Delivery {
    /// Sends until `stop`. What is being sent then is finished first.
    ///
    /// # Errors
    /// The database refuses for a reason that waiting does not cure.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            let pause = match self.pass().await {
                Ok(0) => TICK,
                Ok(_) => continue,
                Err(error) if database::is_transient(&error) => {
                    tracing::warn!(%error, "nothing sent; trying again");
                    DATABASE_PAUSE
                }
                Err(error) => return Err(error.into()),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Claims what is due, tries to send it, and writes the results back. Returns how many were
    /// tried.
    ///
    /// # Errors
    /// The database's. What was claimed is tried again after its lease.
    pub async fn pass(&self) -> Result<usize, sqlx::Error> {
        let until = Instant::now() + self.lease;
        let claimed = store::claim(&self.pool, self.concurrency.into(), self.lease).await?;
        let attempts = join_all(claimed.into_iter().map(|claimed| self.attempt(claimed))).await;
        if attempts.is_empty() {
            return Ok(0);
        }
        self.settle(&attempts, until).await?;
        self.relay.wake();
        Ok(attempts.len())
    }

    async fn attempt(&self, claimed: Claimed) -> Attempt {
        let span = tracing::info_span!(
            "send notification",
            otel.kind = "client",
            order.id = %claimed.order,
            kind = claimed.ending.kind().as_str(),
            attempt = claimed.attempt,
        );
        claimed.trace.set_parent(&span);
        let mail = Mail {
            order: claimed.order,
            user_id: &claimed.user_id,
            ending: &claimed.ending,
            date: claimed.created_at,
        };
        let verdict = self.mailer.send(&mail).instrument(span.clone()).await;
        span.in_scope(|| count(&verdict));
        Attempt { claimed, verdict, span }
    }

    /// Writes results back, again and again while the lease lasts: what the mail server accepted
    /// should not be sent again only because the database was away for a moment.
    async fn settle(&self, attempts: &[Attempt], until: Instant) -> Result<(), sqlx::Error> {
        loop {
            match self.try_settle(attempts).await {
                Err(error)
                    if database::is_transient(&error)
                        && Instant::now() + DATABASE_PAUSE < until =>
                {
                    tracing::warn!(%error, "results not written; trying again");
                    tokio::time::sleep(DATABASE_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn try_settle(&self, attempts: &[Attempt]) -> Result<(), sqlx::Error> {
        let finished: Vec<Finished> = attempts.iter().map(|one| self.finished(one)).collect();
        let accepted: Vec<_> = attempts
            .iter()
            .filter(|one| one.verdict == Verdict::Accepted)
            .map(|one| (one.claimed.order, one.claimed.ending.kind(), one.claimed.attempt))
            .collect();
        let mut tx = self.pool.begin().await?;
        store::record_acceptances(&mut tx, &accepted, self.mailer.via()).await?;
        let counted = store::finish(&mut tx, &finished).await?;
        let events: Vec<Outgoing> = attempts
            .iter()
            .zip(&finished)
            .filter(|(one, _)| counted.contains(&one.claimed.order))
            .filter_map(|(one, finished)| self.event(one, finished.next))
            .collect();
        outbox::append(&mut tx, &events).await?;
        tx.commit().await
    }

    fn finished(&self, Attempt { claimed, verdict, .. }: &Attempt) -> Finished {
        // The low bits of a fresh id are random.
        let entropy = self.ids.next().as_u64_pair().1;
        let attempt = u32::try_from(claimed.attempt).unwrap_or(1);
        let error = match verdict {
            Verdict::Accepted => None,
            Verdict::Temporary(error) | Verdict::Permanent(error) => Some(error.clone()),
        };
        Finished {
            order: claimed.order,
            attempt: claimed.attempt,
            next: next(verdict, attempt, claimed.age, &self.policy, entropy),
            error,
        }
    }

    fn event(&self, Attempt { claimed, verdict, span }: &Attempt, next: Next) -> Option<Outgoing> {
        let (order, kind) = (claimed.order, claimed.ending.kind());
        let (order_id, wire) = (order.to_string(), wire_kind(kind).into());
        // Where nobody collects spans, the order's own trace goes on.
        let trace = TraceContext::of(span);
        let trace = if trace.is_none() { &claimed.trace } else { &trace };
        let (id, at) = (self.ids.next(), self.clock.now());
        match next {
            Next::Retry(_) => None,
            Next::Sent => {
                let message_id = message_id(order, kind);
                let event = NotificationSent { order_id, kind: wire, message_id };
                Some(Outgoing::new(id, order, VERSION, at, trace, &event))
            }
            Next::Failed => {
                let error = match verdict {
                    Verdict::Accepted => String::new(),
                    Verdict::Temporary(error) | Verdict::Permanent(error) => error.clone(),
                };
                let event = NotificationFailed { order_id, kind: wire, error };
                Some(Outgoing::new(id, order, VERSION, at, trace, &event))
            }
        }
    }
}

fn count(verdict: &Verdict) {
    let outcome = match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Temporary(error) => {
            tracing::warn!(
                error,
                "the mail server did not take the message; it will be tried again"
            );
            "temporary"
        }
        Verdict::Permanent(error) => {
            tracing::error!(error, "the mail server refused the message for good");
            "permanent"
        }
    };
    metrics::counter!("portolan_notification_attempts_total", "outcome" => outcome).increment(1);
}

/// The kind as events and RPCs call it.
pub(crate) const fn wire_kind(kind: Kind) -> NotificationKind {
    match kind {
        Kind::Confirmed => NotificationKind::Confirmed,
        Kind::Cancelled => NotificationKind::Cancelled,
    }
}
