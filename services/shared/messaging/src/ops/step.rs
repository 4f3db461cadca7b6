//! Working a key's queue off.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use portolan_runtime::database;
use sqlx::{Acquire as _, PgConnection};
use uuid::Uuid;

use super::{
    DeadLetters, Fault, KeyResult, OpsError, Outcome, STEP, STEP_BYTES, Warrant,
    action::{self, Action, Fate},
    key_text,
    rows::{self, Row},
};
use crate::{
    dead_letter::{self, Verdict},
    envelope::{Malformed, Record},
    error::HandlerError,
    handler::Handler,
    inbox,
};

/// How far one transaction came: what is told and counted after its commit.
struct Step<A> {
    applied: Vec<A>,
    dropped: usize,
    /// How the queue came to its end; none if it goes on.
    ended: Option<End>,
}

struct End {
    /// None if nothing is left.
    refusal: Option<Refusal>,
    /// How many still wait.
    waiting: i64,
}

/// An event that could not be applied.
struct Refusal {
    row: Row,
    verdict: Verdict,
    /// Whether it is the dead letter now, instead of nothing having changed.
    condemned: bool,
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
            let step = database::in_time(self.step(&start)).await?;
            applied += step.applied.len();
            self.count(action, &step);
            self.tell(step.applied);
            if let Some(End { refusal, waiting }) = step.ended {
                let outcome = refusal.map_or(Outcome::Applied, Refusal::outcome);
                let key = key_text(key);
                return Ok(KeyResult { key, outcome, applied, waiting });
            }
            start = Start { head: None, first: false, ..start };
        }
    }

    fn count(&self, action: Action, step: &Step<H::Applied>) {
        action::count(self.group, action, Fate::Applied.name(), step.applied.len());
        action::count(self.group, action, Fate::Dropped.name(), step.dropped);
        let refusal = step.ended.as_ref().and_then(|end| end.refusal.as_ref());
        if let Some(Refusal { row, verdict, condemned }) = refusal {
            let fate = if *condemned { Fate::Dead(verdict) } else { Fate::Refused(verdict) };
            action::count(self.group, action, fate.name(), 1);
            if *condemned {
                dead_letter::announce(self.group, &row.raw(), verdict);
            }
        }
    }

    pub(super) fn tell(&self, applied: Vec<H::Applied>) {
        self.waker.wake();
        for applied in applied {
            self.handler.committed(applied);
        }
    }

    /// One transaction. The key's lock keeps the consumers and other operators away from its queue.
    async fn step(&self, start: &Start<'_>) -> Result<Step<H::Applied>, OpsError> {
        let Start { action, key, by, .. } = *start;
        let mut tx = database::begin(&self.pool).await?;
        inbox::lock(&mut tx, self.group, std::iter::once(key)).await?;
        let queue = rows::queue(&mut tx, self.group, key, STEP, STEP_BYTES).await?;
        self.check(&mut tx, start, queue.first()).await?;
        let mut queue = queue.into_iter();
        let mut dropped = 0;
        if action == Action::Drop
            && start.first
            && let Some(dead) = queue.next()
        {
            rows::take_out(&mut tx, self.group, &dead, "dropped").await?;
            action::record(&mut tx, self.group, action, by, &dead, Fate::Dropped).await?;
            dropped = 1;
        }
        let (applied, refusal) = self.apply_in_order(&mut tx, start, queue).await?;
        let left = rows::length(&mut tx, self.group, key, 0).await?;
        let ended = match refusal {
            Some(refusal) => Some(End { refusal: Some(refusal), waiting: left - 1 }),
            None if left > 0 => None,
            None => {
                rows::unmark(&mut tx, self.group, key).await?;
                Some(End { refusal: None, waiting: 0 })
            }
        };
        tx.commit().await?;
        Ok(Step { applied, dropped, ended })
    }

    /// Whether the queue is what the operator was told of.
    async fn check(
        &self,
        tx: &mut PgConnection,
        start: &Start<'_>,
        head: Option<&Row>,
    ) -> Result<(), OpsError> {
        let Some(head) = head else {
            // Another operator may have taken the rest between two steps: then it is done. So it
            // is if nobody waits and yet the key is marked: its events would wait for ever.
            let marked = start.action == Action::Redrive
                && rows::is_marked(tx, self.group, start.key).await?;
            return if start.first && !marked { Err(OpsError::NotFound) } else { Ok(()) };
        };
        if let Some(meant) = start.head.filter(|meant| *meant != head.event_id) {
            // Whoever held the lock before may have dealt with it.
            let there = rows::find(tx, self.group, meant).await?.is_some();
            let first = head.event_id;
            return Err(if there { OpsError::NotFirst { first } } else { OpsError::NotFound });
        }
        if start.first && start.action == Action::Drop && head.reason.is_none() {
            return Err(OpsError::NotDead);
        }
        Ok(())
    }

    async fn apply_in_order(
        &self,
        tx: &mut PgConnection,
        start: &Start<'_>,
        queue: impl Iterator<Item = Row>,
    ) -> Result<(Vec<H::Applied>, Option<Refusal>), OpsError> {
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
                    return Ok((applied, Some(Refusal { row, verdict, condemned: false })));
                }
                Err(verdict) => {
                    self.condemn(tx, action, by, &row, &verdict).await?;
                    return Ok((applied, Some(Refusal { row, verdict, condemned: true })));
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

impl Refusal {
    fn outcome(self) -> Outcome {
        let fault = fault(&self.row, &self.verdict);
        if self.condemned { Outcome::Stopped(fault) } else { Outcome::Refused(fault) }
    }
}

pub(super) fn fault(row: &Row, verdict: &Verdict) -> Fault {
    Fault {
        event_id: row.event_id,
        reason: verdict.reason().to_owned(),
        detail: verdict.detail().to_owned(),
    }
}
