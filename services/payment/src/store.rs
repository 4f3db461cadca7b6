//! The SQL of the payment service.

mod jobs;
mod ledger;
mod payments;

pub use jobs::{Due, Job, claim, waiting};
pub use ledger::{Entry, captured, record};
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

impl Error {
    /// Whether the database is away or overwhelmed, so that the next statement would fare no
    /// better. A conflict over a row (SQLSTATE 40 and 55) is not.
    pub fn is_outage(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let conflict = code.is_some_and(|code| code.starts_with("40") || code.starts_with("55"));
        portolan_runtime::database::is_transient(error) && !conflict
    }
}
