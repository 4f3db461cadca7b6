//! Hands messages to the mail server: claim and count the attempt, commit, send outside any
//! transaction, write the result back as soon as it is known. A process that dies in between leaves
//! a lease that runs out, and the next attempt carries the same `Message-ID`.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use portolan_kernel::{Clock, IdGen};
use portolan_messaging::{Outgoing, Waker, outbox};
use portolan_proto::{
    events::v1::{NotificationFailed, NotificationSent},
    notification::v1::NotificationKind,
};
use portolan_runtime::{database, failpoint, telemetry::TraceContext};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{
    domain::{Kind, Next, RetryPolicy, Verdict, message_id, next},
    mail::{Farewell, Mail, Mailer},
    store::{self, Claimed, Finished},
};

/// A notification reports one change of itself to others: its end.
pub(super) const VERSION: i64 = 1;

/// How often to look for notifications that are due, when nothing wakes the worker.
const TICK: Duration = Duration::from_secs(1);
/// The pause after the database was away.
const DATABASE_PAUSE: Duration = Duration::from_millis(500);
/// The pause after the database refused for a reason that waiting may not cure.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

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
    /// Sends until `stop`. What is being sent then is finished first. Whatever the database says,
    /// this goes on: the rest of the service must not end with it.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.pass().await {
                Ok(0) => TICK,
                Ok(_) => continue,
                Err(error) if database::is_transient(&error) => {
                    tracing::warn!(%error, "nothing sent; trying again");
                    DATABASE_PAUSE
                }
                Err(error) => {
                    tracing::error!(%error, "nothing sent; trying again");
                    REFUSED_PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Claims what is due, tries to send it, and writes each result back without waiting for
    /// slower ones. Returns how many were tried.
    ///
    /// # Errors
    /// The database's, when nothing could be claimed.
    pub async fn pass(&self) -> Result<usize, sqlx::Error> {
        let until = Instant::now() + self.lease;
        let claimed = store::claim(&self.pool, self.concurrency.into(), self.lease);
        let claimed = database::in_time(claimed).await?;
        let tried = claimed.len();
        let (done, results) = mpsc::channel(tried.max(1));
        let sending = async move {
            join_all(claimed.into_iter().map(|claimed| self.deliver(claimed, &done))).await;
        };
        tokio::join!(sending, self.settle_all(results, until));
        Ok(tried)
    }

    /// Attempts one message, reports the result, and only then takes leave of the mail server.
    async fn deliver(&self, claimed: Claimed, done: &mpsc::Sender<Attempt>) {
        let (attempt, farewell) = self.attempt(claimed).await;
        let order = attempt.claimed.order;
        if done.send(attempt).await.is_err() {
            tracing::error!(%order, "a result was lost; the message will be sent again");
        }
        farewell.say().await;
    }

    /// Writes results back until there are no more senders: those that are there, then those that
    /// came meanwhile.
    async fn settle_all(&self, mut results: mpsc::Receiver<Attempt>, until: Instant) {
        let mut ready = Vec::new();
        while results.recv_many(&mut ready, results.max_capacity()).await > 0 {
            self.settle(&ready, until).await;
            self.relay.wake();
            ready.clear();
        }
    }

    async fn attempt(&self, claimed: Claimed) -> (Attempt, Farewell) {
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
        failpoint!("mail:before-send");
        let (verdict, farewell) = self.mailer.send(&mail).instrument(span.clone()).await;
        failpoint!("mail:after-send");
        span.in_scope(|| count(&verdict));
        (Attempt { claimed, verdict, span }, farewell)
    }

    /// Writes results back. If the database refuses them together, each is written by itself, so
    /// that one that cannot be written takes no other with it.
    async fn settle(&self, attempts: &[Attempt], until: Instant) {
        let Err(error) = self.settle_patiently(attempts, until).await else { return };
        if attempts.len() == 1 || database::is_transient(&error) {
            return report(attempts, &error);
        }
        tracing::warn!(%error, "results not written together; writing each by itself");
        for attempt in attempts.chunks(1) {
            if let Err(error) = self.settle_patiently(attempt, until).await {
                report(attempt, &error);
            }
        }
    }

    /// Tries again and again while the lease lasts: what the mail server accepted should not be
    /// sent again only because the database was away for a moment.
    async fn settle_patiently(
        &self,
        attempts: &[Attempt],
        until: Instant,
    ) -> Result<(), sqlx::Error> {
        loop {
            match database::in_time(self.try_settle(attempts)).await {
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
        let mut tx = database::begin(&self.pool).await?;
        store::record_acceptances(&mut tx, &accepted, Mailer::VIA).await?;
        let counted = store::finish(&mut tx, &finished).await?;
        let events: Vec<Outgoing> = attempts
            .iter()
            .zip(&finished)
            .filter(|(one, _)| counted.contains(&one.claimed.order))
            .filter_map(|(one, finished)| self.event(one, finished.next))
            .collect();
        outbox::append(&mut tx, &events).await?;
        failpoint!("sent:before-commit");
        tx.commit().await?;
        failpoint!("sent:after-commit");
        Ok(())
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

/// Says which results are lost. The messages are sent again after their lease.
fn report(attempts: &[Attempt], error: &sqlx::Error) {
    for Attempt { claimed, span, .. } in attempts {
        span.in_scope(|| {
            tracing::error!(order.id = %claimed.order, %error, "a result was not written");
        });
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
