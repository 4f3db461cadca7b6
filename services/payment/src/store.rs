//! The SQL of the payment service.

mod jobs;
mod ledger;
mod payments;

pub use jobs::{Due, Job, claim, waiting};
pub use ledger::{Entry, record};
pub use payments::{Row, find, insert, lock, update};

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A row holds what it should not.
    #[error("the payment of order {order} cannot be read: {what}")]
    Corrupt { order: uuid::Uuid, what: &'static str },
    /// A row that was locked is not as it was read.
    #[error("{0} rows changed where others were expected")]
    RowCount(u64),
}
