//! A lock for each customer, taken around placing an order: Redlock (Redis documentation,
//! "Distributed Locks with Redis") with fencing tokens.
//!
//! The lock refuses contention early; it keeps nothing correct. A holder may be paused beyond its
//! time and act all the same, masters may forget, clocks may jump, so every token is checked again
//! where it matters: the guard row accepts no token smaller than the largest it has seen
//! (Kleppmann, "How to do distributed locking", 2016), and the unique key, the open-order limit
//! and the ledgers never mention it.
//!
//! What holds while a majority of the masters keeps what it was told:
//!
//! * at most one holder at a time whose [`Guard::is_valid`] (the clocks of processes and masters
//!   running within one percent of each other);
//! * tokens of a user rise from holder to holder;
//! * no request waits for a master that is away or stands still.
//!
//! When masters forget, tokens rise all the same, because they begin at the master's time.

mod config;
mod guard;
mod metrics;
mod quorum;
mod redlock;
mod retry;
mod script;
mod terms;

pub use config::LockConfig;
pub use guard::Guard;
pub use redlock::Redlock;
pub(crate) use terms::Terms;

/// Why there is no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error("the lock is held")]
    Busy {
        /// Whether a holder has the same purpose.
        same_purpose: bool,
    },
    /// No majority of the masters answers in time: nobody can tell who holds it.
    #[error("no majority of the lock's masters answers in time")]
    Unavailable,
}
