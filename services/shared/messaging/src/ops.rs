//! What an operator can do with a group's dead letters: list, show, redrive, drop.
//!
//! A key's *queue* is its dead letter and the events that came after it, in the order in which
//! they were set aside. Whatever an operator does, these hold:
//!
//! * The queue is applied from the database, in order, by the handler that the consumer uses, under
//!   the key's lock. Nothing is published again. While events wait, the key stays marked, so that
//!   events that arrive meanwhile go to the end of the queue.
//! * A transaction takes at most [`STEP`] events or [`STEP_BYTES`] of them; a longer queue takes several. A crash between
//!   two of them leaves a shorter queue, whose first event merely waits: redriving goes on there.
//! * A dead letter that still cannot be applied changes nothing. If it can, but an event behind it
//!   cannot, that event becomes the dead letter and the rest waits on behind it.
//! * A drop names its event, so that repeating it cannot hit the next one.
//! * Every event that an operator's action concerned has its row in `dead_letter_action`, written
//!   in the same transaction.
//!
//! A record without a sound envelope has no queue: its key is not to be trusted. It is dealt with
//! alone, by its event id.

mod action;
mod error;
mod grpc;
mod rows;
mod step;
mod stray;
mod view;
mod watch;

use std::{sync::Arc, time::Duration};

pub use action::Warrant;
pub use error::OpsError;
pub use grpc::METHODS;
use portolan_kernel::Clock;
use portolan_runtime::database;
use sqlx::PgPool;
use uuid::Uuid;
pub(crate) use watch::watch;

use crate::{
    handler::{Group, Handler},
    ops::{action::Action, view::Entry},
    relay::Waker,
};

/// Events in one transaction at most: as many as a consumer's batch has by default.
pub const STEP: usize = 256;

/// Bytes of payload in one transaction at most, and one event more: it holds them all in memory.
pub const STEP_BYTES: usize = 4 * 1024 * 1024;

/// After that long a call of "all" begins with no other key: its caller waits for the answer.
const BEGIN_WITHIN: Duration = Duration::from_secs(2);

/// Which dead letter is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The dead letter of this key, whichever it is.
    Key(String),
    /// This event, which must be a dead letter.
    Event(Uuid),
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyResult {
    /// The key as text.
    pub key: String,
    /// Whether the queue is empty now, and if not why.
    pub outcome: Outcome,
    /// How many events were applied.
    pub applied: usize,
    /// How many events still wait behind the dead letter.
    pub waiting: i64,
}

/// Whether a queue came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left of it.
    Applied,
    /// The dead letter still cannot be applied: nothing changed.
    Refused(Fault),
    /// An event behind it cannot be applied, and is the dead letter now.
    Stopped(Fault),
    /// Something was in the way. What was committed before counts.
    Failed,
    /// It waits behind this event: nothing changed.
    Waits(Uuid),
    /// Somebody else, or the redrive of an earlier one, has dealt with it.
    Gone,
}

/// Why an event cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The event.
    pub event_id: Uuid,
    /// A stable word.
    pub reason: String,
    /// What exactly.
    pub detail: String,
}

/// A group's dead letters, and the handler that can apply them.
#[derive(Debug)]
pub struct DeadLetters<H> {
    pub(crate) pool: PgPool,
    pub(crate) group: Group,
    pub(crate) handler: Arc<H>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) waker: Waker,
}

impl<H> Clone for DeadLetters<H> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            group: self.group,
            handler: Arc::clone(&self.handler),
            clock: Arc::clone(&self.clock),
            waker: self.waker.clone(),
        }
    }
}

impl<H: Handler> DeadLetters<H> {
    /// Applies a dead letter and what waits behind it. Doing it twice is harmless: the second time
    /// there is nothing.
    ///
    /// # Errors
    /// There is no such dead letter, it waits behind another, or the database is in the way.
    pub async fn redrive(&self, target: &Target, by: &Warrant) -> Result<KeyResult, OpsError> {
        self.act(Action::Redrive, target, by).await
    }

    /// Gives a dead letter up and applies what waits behind it. Doing it twice is harmless: the
    /// second time there is no such event.
    ///
    /// # Errors
    /// As for [`Self::redrive`]; and the event is not dead.
    pub async fn give_up(&self, event_id: Uuid, by: &Warrant) -> Result<KeyResult, OpsError> {
        self.act(Action::Drop, &Target::Event(event_id), by).await
    }

    async fn act(
        &self,
        action: Action,
        target: &Target,
        by: &Warrant,
    ) -> Result<KeyResult, OpsError> {
        by.check()?;
        let done = match target {
            Target::Key(key) => self.work_off(action, key.as_bytes(), None, by).await,
            Target::Event(id) => {
                let mut conn = database::acquire(&self.pool).await?;
                let found = rows::find(&mut conn, self.group, *id).await?;
                drop(conn);
                match found {
                    None => Err(OpsError::NotFound),
                    Some(row) if row.is_stray() => self.deal_with_stray(action, *id, by).await,
                    Some(row) => self.work_off(action, &row.key, Some(*id), by).await,
                }
            }
        }?;
        tracing::info!(
            group = self.group.name,
            key = done.key,
            operator = by.operator,
            action = action.name(),
            applied = done.applied,
            waiting = done.waiting,
            outcome = ?done.outcome,
            "dead letter dealt with"
        );
        Ok(done)
    }

    /// The dead letters after `cursor`, at most `limit`, of one key or of all; and where to go on.
    pub(crate) async fn list(
        &self,
        key: Option<&str>,
        limit: i64,
        cursor: i64,
    ) -> Result<(Vec<Entry>, Option<i64>), sqlx::Error> {
        let mut conn = database::acquire(&self.pool).await?;
        let key = key.map(str::as_bytes);
        let mut found = view::dead(&mut conn, self.group, key, limit + 1, cursor).await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = found.len() > most;
        found.truncate(most);
        let next = found.last().filter(|_| more).map(|entry| entry.seq);
        Ok((found, next))
    }

    /// Redrives the dead letters after `cursor`, one after the other, at most `limit`. What is in
    /// the way of one does not keep the others from it.
    pub(crate) async fn redrive_all(
        &self,
        limit: i64,
        cursor: i64,
        by: &Warrant,
    ) -> Result<(Vec<KeyResult>, Option<i64>), OpsError> {
        by.check()?;
        let began = tokio::time::Instant::now();
        let (entries, next) = self.list(None, limit, cursor).await?;
        let mut results = Vec::new();
        let mut entries = entries.into_iter().peekable();
        while let Some(entry) = entries.next() {
            results.push(self.redrive_listed(&entry, by).await?);
            if entries.peek().is_some() && began.elapsed() > BEGIN_WITHIN {
                return Ok((results, Some(entry.seq)));
            }
        }
        Ok((results, next))
    }

    async fn redrive_listed(&self, entry: &Entry, by: &Warrant) -> Result<KeyResult, OpsError> {
        let outcome = match self.redrive(&Target::Event(entry.event_id), by).await {
            Err(OpsError::NotFound) => Outcome::Gone,
            Err(OpsError::NotFirst { first }) => Outcome::Waits(first),
            Err(OpsError::NotNow(error)) => {
                let group = self.group.name;
                let why = format!("{error:#}");
                tracing::warn!(group, event.id = %entry.event_id, error = why, "not redriven");
                Outcome::Failed
            }
            done => return done,
        };
        let waiting = if outcome == Outcome::Gone { 0 } else { entry.waiting };
        Ok(KeyResult { key: key_text(&entry.key), outcome, applied: 0, waiting })
    }
}

fn key_text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
