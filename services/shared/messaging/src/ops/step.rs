//! Working a key's queue off.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use sqlx::{Acquire as _, PgConnection};
use uuid::Uuid;

use super::{
    DeadLetters, Fault, KeyResult, OpsError, Outcome, STEP, Warrant,
    action::{self, Action, Fate},
    rows::{self, Row},
};
use crate::{
    batch::PATIENCE,
    dead_letter::{self, Verdict},
    envelope::{Malformed, Record},
    error::HandlerError,
    handler::Handler,
    inbox,
};

/// How far one transaction came.
pub(super) struct Step<A> {
    /// What the handler is to be told after the commit.
    applied: Vec<A>,
    /// Whether and how the queue came to its end; none if it goes on.
    ended: Option<Ended>,
}

enum Ended {
    Empty,
    Refused(Row, Verdict),
    Stopped(Row, Verdict),
}

/// What a step begins with.
struct Start<'a> {
    action: Action,
    key: &'a [u8],
    /// The event that must be the first one.
    head: Option<Uuid>,
    /// Whether nothing was done yet.
    first: bool,
    by: &'a Warrant,
}

impl<H: Handler> DeadLetters<H> {
    /// Applies the queue, transaction by transaction, until it is empty or an event is refused.
    pub(super) async fn work_off(
        &self,
        action: Action,
        key: &[u8],
        head: Option<Uuid>,
        by: &Warrant,
    ) -> Result<KeyResult, OpsError> {
        let mut applied = 0;
        let mut start = Start { action, key, head, first: true, by };
        loop {
            let step = self.bounded(self.step(&start)).await?;
            applied += step.applied.len();
            self.tell(step.applied);
            if let Some(ended) = step.ended {
                return self.result(key, applied, ended).await;
            }
            start = Start { head: None, first: false, ..start };
        }
    }

    /// A transaction that takes longer is dropped, that is rolled back.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, OpsError>>,
    ) -> Result<T, OpsError> {
        let late = |_| OpsError::NotNow(anyhow::anyhow!("the database does not answer"));
        tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    pub(super) fn tell(&self, applied: Vec<H::Applied>) {
        self.waker.wake();
        for applied in applied {
            self.handler.committed(applied);
        }
    }

    async fn result(
        &self,
        key: &[u8],
        applied: usize,
        ended: Ended,
    ) -> Result<KeyResult, OpsError> {
        let mut conn = self.pool.acquire().await?;
        let left = rows::length(&mut conn, self.group, key).await?;
        let (outcome, waiting) = match ended {
            Ended::Empty => (Outcome::Applied, left),
            Ended::Refused(row, verdict) => (Outcome::Refused(fault(&row, &verdict)), left - 1),
            Ended::Stopped(row, verdict) => (Outcome::Stopped(fault(&row, &verdict)), left - 1),
        };
        let key = String::from_utf8_lossy(key).into_owned();
        Ok(KeyResult { key, outcome, applied, waiting: waiting.max(0) })
    }

    /// One transaction. The key's lock keeps the consumers and other operators away from its queue.
    async fn step(&self, start: &Start<'_>) -> Result<Step<H::Applied>, OpsError> {
        let Start { action, key, first, by, .. } = *start;
        let mut tx = self.pool.begin().await?;
        inbox::lock(&mut tx, self.group, std::iter::once(key)).await?;
        let mut queue = rows::queue(&mut tx, self.group, key, STEP + 1).await?;
        let more = queue.len() > STEP;
        queue.truncate(STEP);
        check(start, &queue)?;
        let mut queue = queue.into_iter();
        if action == Action::Drop
            && first
            && let Some(dead) = queue.next()
        {
            rows::take_out(&mut tx, self.group, &dead, "dropped").await?;
            action::record(&mut tx, self.group, action, by, &dead, Fate::Dropped).await?;
        }
        let (applied, stopped) = self.apply_in_order(&mut tx, start, queue).await?;
        let ended = match stopped {
            Some(ended) => Some(ended),
            None if more => None,
            None => {
                rows::unmark(&mut tx, self.group, key).await?;
                Some(Ended::Empty)
            }
        };
        tx.commit().await?;
        Ok(Step { applied, ended })
    }

    async fn apply_in_order(
        &self,
        tx: &mut PgConnection,
        start: &Start<'_>,
        queue: impl Iterator<Item = Row>,
    ) -> Result<(Vec<H::Applied>, Option<Ended>), OpsError> {
        let Start { action, first, by, .. } = *start;
        let mut applied = Vec::new();
        // Whether refusing leaves everything as it was.
        let mut untouched = first && action == Action::Redrive;
        for row in queue {
            match self.attempt(tx, &row).await? {
                Ok(done) => {
                    rows::take_out(tx, self.group, &row, "done").await?;
                    action::record(tx, self.group, action, by, &row, Fate::Applied).await?;
                    applied.push(done);
                }
                Err(verdict) if untouched && row.reason.is_some() => {
                    let fate = Fate::Refused(&verdict);
                    action::record(tx, self.group, action, by, &row, fate).await?;
                    return Ok((applied, Some(Ended::Refused(row, verdict))));
                }
                Err(verdict) => {
                    self.condemn(tx, action, by, &row, &verdict).await?;
                    return Ok((applied, Some(Ended::Stopped(row, verdict))));
                }
            }
            untouched = false;
        }
        Ok((applied, None))
    }

    /// Applies one event, or leaves no trace of having tried. A handler that panics refuses.
    pub(super) async fn attempt(
        &self,
        tx: &mut PgConnection,
        row: &Row,
    ) -> Result<Result<H::Applied, Verdict>, OpsError> {
        let record = match row.raw().decode(self.clock.now()) {
            Ok(record) => record,
            Err(Malformed(why)) => return Ok(Err(Verdict::new("unreadable", why))),
        };
        let mut savepoint = tx.begin().await?;
        match self.apply(&mut savepoint, record).await {
            Ok(applied) => {
                savepoint.commit().await?;
                Ok(Ok(applied))
            }
            Err(HandlerError::Poison { reason, detail }) => {
                savepoint.rollback().await?;
                Ok(Err(Verdict::new(reason, &detail)))
            }
            Err(HandlerError::Transient(error)) => Err(OpsError::NotNow(error)),
        }
    }

    async fn apply(
        &self,
        conn: &mut PgConnection,
        record: Record,
    ) -> Result<H::Applied, HandlerError> {
        let records = [record];
        let attempt = AssertUnwindSafe(self.handler.apply(conn, &records)).catch_unwind();
        attempt
            .await
            .unwrap_or_else(|_panic| Err(HandlerError::poison("panicked", "the handler panicked")))
    }

    /// Makes an event of the queue the dead letter that the rest waits behind.
    async fn condemn(
        &self,
        tx: &mut PgConnection,
        action: Action,
        by: &Warrant,
        row: &Row,
        verdict: &Verdict,
    ) -> Result<(), OpsError> {
        if row.reason.is_none() {
            dead_letter::publish_parked(tx, self.group, &row.raw(), row.event_id, verdict).await?;
        }
        rows::condemn(tx, self.group, row, verdict.reason(), verdict.detail()).await?;
        action::record(tx, self.group, action, by, row, Fate::Dead(verdict)).await?;
        Ok(())
    }
}

/// Whether the queue is what the operator was told of.
fn check(start: &Start<'_>, queue: &[Row]) -> Result<(), OpsError> {
    let Some(head) = queue.first() else {
        // Another operator may have taken the rest between two steps: then it is done.
        return if start.first { Err(OpsError::NotFound) } else { Ok(()) };
    };
    if start.head.is_some_and(|expected| expected != head.event_id) {
        return Err(OpsError::NotFirst { first: head.event_id });
    }
    if start.first && start.action == Action::Drop && head.reason.is_none() {
        return Err(OpsError::NotDead);
    }
    Ok(())
}

pub(super) fn fault(row: &Row, verdict: &Verdict) -> Fault {
    Fault {
        event_id: row.event_id,
        reason: verdict.reason().to_owned(),
        detail: verdict.detail().to_owned(),
    }
}
