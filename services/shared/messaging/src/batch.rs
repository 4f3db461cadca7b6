//! One batch of records, one transaction: inbox, locks, state change, events, dead letters.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use portolan_kernel::Clock;
use portolan_runtime::{database, failpoint};
use sqlx::{PgConnection, PgPool};
use time::Date;
use uuid::Uuid;

use crate::{
    dead_letter::{self, Verdict},
    envelope::{self, Malformed, Raw, Record},
    error::HandlerError,
    handler::{Group, Handler},
    inbox, partitions,
    relay::Waker,
};

/// Where the inbox rows of malformed records go: a day in the default partition for ever.
pub(crate) const MALFORMED_DAY: Date = time::macros::date!(1970 - 01 - 01);

/// A record with what its envelope says.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) raw: Raw,
    pub(crate) record: Result<Record, Malformed>,
    pub(crate) inbox_id: Uuid,
    pub(crate) day: Date,
}

/// Applies batches to the database.
pub(crate) struct Processor<H> {
    pub(crate) pool: PgPool,
    pub(crate) group: Group,
    pub(crate) handler: Arc<H>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) waker: Waker,
}

/// What remains of a batch: parts still to be applied, the first one last.
pub(crate) type Parts = Vec<Vec<Delivery>>;

impl<H: Handler> Processor<H> {
    /// Reads the envelope of a record.
    pub(crate) fn receive(&self, raw: Raw) -> Delivery {
        let record = raw.decode(self.clock.now());
        let inbox_id = record.as_ref().map_or_else(|_| raw.place_id(), |record| record.event_id);
        // A malformed record may claim any day; it is filed under the first that has a partition
        // whenever it comes, so that its twin meets it.
        let day = if record.is_ok() { envelope::event_day(inbox_id) } else { MALFORMED_DAY };
        Delivery { raw, record, inbox_id, day }
    }

    /// How much of a batch the record takes up.
    pub(crate) fn weight(&self, delivery: &Delivery) -> usize {
        delivery.record.as_ref().map_or(1, |record| self.handler.weight(record).max(1))
    }

    /// Applies what remains, part by part, halving a part that holds a poison record until that
    /// record stands alone and can be buried.
    ///
    /// # Errors
    /// The world's: call again with the same parts, what was committed is no longer among them.
    pub(crate) async fn advance(&self, parts: &mut Parts) -> Result<(), anyhow::Error> {
        while let Some(part) = parts.pop() {
            match self.attempt_or_panic(&part).await {
                Ok(applied) => {
                    self.waker.wake();
                    if let Some(applied) = applied {
                        self.handler.committed(applied);
                    }
                }
                Err(HandlerError::Transient(error)) => {
                    parts.push(part);
                    return Err(error);
                }
                Err(HandlerError::Poison { reason, detail }) => {
                    self.isolate(part, parts, Verdict::new(reason, &detail)).await?;
                }
            }
        }
        Ok(())
    }

    async fn isolate(
        &self,
        mut part: Vec<Delivery>,
        parts: &mut Parts,
        verdict: Verdict,
    ) -> Result<(), anyhow::Error> {
        if part.len() > 1 {
            let second = part.split_off(part.len() / 2);
            parts.push(second);
            parts.push(part);
            return Ok(());
        }
        let Some(culprit) = part.first() else { return Ok(()) };
        if let Err(error) = database::in_time(self.condemn(culprit, &verdict)).await {
            parts.push(part);
            return Err(error.into());
        }
        self.waker.wake();
        Ok(())
    }

    /// A record that makes the handler panic would take every replica down one after the other:
    /// it is poison like any other. The transaction is dropped, that is rolled back.
    async fn attempt_or_panic(
        &self,
        part: &[Delivery],
    ) -> Result<Option<H::Applied>, HandlerError> {
        let attempt = AssertUnwindSafe(database::in_time(self.attempt(part))).catch_unwind().await;
        let panicked = |_| Err(HandlerError::poison("panicked", "the handler panicked"));
        attempt.unwrap_or_else(panicked)
    }

    async fn attempt(&self, part: &[Delivery]) -> Result<Option<H::Applied>, HandlerError> {
        let mut tx = database::begin(&self.pool).await?;
        let fresh = inbox::insert(&mut tx, self.group, part).await?;
        let fresh = first_occurrences(part, fresh);
        self.count("duplicate", part.len() - fresh.len());
        if fresh.is_empty() {
            tx.rollback().await?;
            return Ok(None);
        }
        inbox::lock_keys(&mut tx, self.group, &fresh).await?;
        let records = self.sort_out(&mut tx, fresh).await?;
        let applied = if records.is_empty() {
            None
        } else {
            Some(self.handler.apply(&mut tx, &records).await?)
        };
        failpoint!("consumer:before-commit");
        tx.commit().await?;
        failpoint!("consumer:after-commit");
        self.count("applied", records.len());
        Ok(applied)
    }

    /// Buries what cannot be read, parks what waits behind a dead letter, skips what is too old,
    /// and returns the rest for the handler.
    async fn sort_out(
        &self,
        tx: &mut PgConnection,
        fresh: Vec<&Delivery>,
    ) -> Result<Vec<Record>, HandlerError> {
        let blocked = inbox::parked_keys(tx, self.group, &fresh).await?;
        let oldest = partitions::oldest_day(self.clock.now());
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        for delivery in fresh {
            match &delivery.record {
                Err(Malformed(reason)) => {
                    let verdict = Verdict::new(dead_letter::MALFORMED, reason);
                    self.bury(tx, delivery, &verdict).await?;
                }
                Ok(record) if delivery.day < oldest => self.skip(record),
                Ok(_) if blocked.contains(&delivery.raw.key) => waiting.push(delivery),
                Ok(record) => records.push(record.clone()),
            }
        }
        self.count("parked", waiting.len());
        dead_letter::park_behind(tx, self.group, &waiting).await?;
        Ok(records)
    }

    /// Older than anything the inbox remembers: nobody can tell any more whether it was applied.
    fn skip(&self, record: &Record) {
        tracing::warn!(
            group = self.group.name,
            event.id = %record.event_id,
            order.id = %record.key,
            event.kind = record.event_type,
            "stale record skipped"
        );
        self.count("stale", 1);
    }

    async fn condemn(&self, delivery: &Delivery, verdict: &Verdict) -> Result<(), sqlx::Error> {
        let mut tx = database::begin(&self.pool).await?;
        let one = std::slice::from_ref(delivery);
        if inbox::insert(&mut tx, self.group, one).await?.is_empty() {
            return tx.rollback().await;
        }
        inbox::lock_keys(&mut tx, self.group, &[delivery]).await?;
        self.bury(&mut tx, delivery, verdict).await?;
        failpoint!("dead-letter:before-commit");
        tx.commit().await?;
        failpoint!("dead-letter:after-commit");
        Ok(())
    }

    async fn bury(
        &self,
        tx: &mut PgConnection,
        delivery: &Delivery,
        verdict: &Verdict,
    ) -> Result<(), sqlx::Error> {
        dead_letter::bury(tx, self.group, delivery, verdict).await?;
        dead_letter::announce(self.group, &delivery.raw, verdict);
        Ok(())
    }

    fn count(&self, outcome: &'static str, records: usize) {
        if records > 0 {
            metrics::counter!(
                "portolan_consumer_records_total", "group" => self.group.name, "outcome" => outcome
            )
            .increment(records as u64);
        }
    }
}

/// The deliveries whose inbox row is new, each id once: a batch may hold the same record twice.
fn first_occurrences(part: &[Delivery], mut fresh: HashSet<Uuid>) -> Vec<&Delivery> {
    part.iter().filter(|delivery| fresh.remove(&delivery.inbox_id)).collect()
}
