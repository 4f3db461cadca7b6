//! What an operator can do with a group's dead letters: list, show, redrive, drop.
//!
//! A key's *queue* is its dead letter and the events that came after it, in the order in which
//! they were set aside. Whatever an operator does, these hold:
//!
//! * The queue is applied from the database, in order, by the handler that the consumer uses, under
//!   the key's lock. Nothing is published again. While events wait, the key stays marked, so that
//!   events that arrive meanwhile go to the end of the queue.
//! * A transaction takes at most [`STEP`] events; a longer queue takes several. A crash between
//!   two of them leaves a shorter queue, whose first event merely waits: redriving goes on there.
//! * A dead letter that still cannot be applied changes nothing. If it can, but an event behind it
//!   cannot, that event becomes the dead letter and the rest waits on behind it.
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
mod watch;

use std::sync::Arc;

pub use action::Warrant;
pub use error::OpsError;
pub use grpc::METHODS;
use portolan_kernel::Clock;
use sqlx::PgPool;
use uuid::Uuid;
pub(crate) use watch::watch;

use crate::{
    handler::{Group, Handler},
    ops::{
        action::Action,
        rows::{Entry, Row},
    },
    relay::Waker,
};

/// Events in one transaction at most: as many as a consumer's batch has by default.
pub const STEP: usize = 256;

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

    /// Gives a dead letter up and applies what waits behind it.
    ///
    /// # Errors
    /// As for [`Self::redrive`]; and the first event of the queue is not dead.
    pub async fn give_up(&self, target: &Target, by: &Warrant) -> Result<KeyResult, OpsError> {
        self.act(Action::Drop, target, by).await
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
                let mut conn = self.pool.acquire().await?;
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
        let mut conn = self.pool.acquire().await?;
        let key = key.map(str::as_bytes);
        let mut found = rows::dead(&mut conn, self.group, key, limit + 1, cursor).await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = found.len() > most;
        found.truncate(most);
        let next = found.last().filter(|_| more).map(|entry| entry.row.seq);
        Ok((found, next))
    }

    /// The same for the dead letters after `cursor`, one after the other, at most `limit`.
    pub(crate) async fn act_on_all(
        &self,
        action: Action,
        limit: i64,
        cursor: i64,
        by: &Warrant,
    ) -> Result<(Vec<KeyResult>, Option<i64>), OpsError> {
        by.check()?;
        let (entries, next) = self.list(None, limit, cursor).await?;
        let mut results = Vec::new();
        for entry in entries {
            match self.act(action, &Target::Event(entry.row.event_id), by).await {
                Ok(done) => results.push(done),
                // Somebody, or the redrive of an earlier entry, was faster; or it waits behind one
                // that was refused just now.
                Err(OpsError::NotFound | OpsError::NotFirst { .. } | OpsError::NotDead) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((results, next))
    }
}

fn key_text(row: &Row) -> String {
    String::from_utf8_lossy(&row.key).into_owned()
}
