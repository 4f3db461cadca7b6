use std::future::Future;

use sqlx::PgConnection;

use crate::{envelope::Record, error::HandlerError};

/// A consumer group: one for each service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The number in the inbox's primary key.
    pub id: i16,
    /// The name, which also names the dead-letter topic.
    pub name: &'static str,
}

/// What a service does with events.
pub trait Handler: Send + Sync + 'static {
    /// What to do after the commit: whom to wake, whom to tell.
    type Applied: Send;

    /// How much of a batch this record takes up, in order lines.
    fn weight(&self, _record: &Record) -> usize {
        1
    }

    /// Applies records that are new to this group, in order, inside the transaction that holds
    /// their inbox rows.
    ///
    /// The advisory locks of all keys of the batch are held, so no other consumer of the group
    /// handles the same order meanwhile, whether or not its row exists. Other writers (sweepers,
    /// workers, RPCs) are excluded by row locks, taken in the order of the ids.
    ///
    /// # Errors
    /// [`HandlerError::Transient`] rolls back and tries the same batch again;
    /// [`HandlerError::Poison`] rolls back and bisects.
    fn apply(
        &self,
        tx: &mut PgConnection,
        records: &[Record],
    ) -> impl Future<Output = Result<Self::Applied, HandlerError>> + Send;

    /// Called once after the commit.
    fn committed(&self, _applied: Self::Applied) {}
}
