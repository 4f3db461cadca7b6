//! A lock for each customer, taken around placing an order.
//!
//! The lock refuses contention early; it keeps nothing correct. A holder may be paused past its
//! lease and act all the same, so every token is checked again where it matters: the guard row
//! accepts no token smaller than the largest it has seen (Kleppmann, "How to do distributed
//! locking", 2016), and the unique key, the open-order limit and the ledgers never mention it.

mod lease;

use std::{fmt, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;

pub use lease::LeaseLock;

/// Serialises the actions of one customer, as far as a lock can.
pub trait UserLock: fmt::Debug + Send + Sync + 'static {
    /// Tries once to take the lock of `user`.
    ///
    /// `purpose` says what for, so that a duplicate of the same request can wait instead of being
    /// refused. The token is greater than every token handed out for this user before, and at
    /// least `floor`.
    ///
    /// # Errors
    /// [`LockError`].
    fn acquire<'a>(
        &'a self,
        user: &'a str,
        purpose: &'a str,
        floor: i64,
    ) -> BoxFuture<'a, Result<Guard, LockError>>;
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error("the lock is held")]
    Busy {
        /// Whether the holder has the same purpose.
        same_purpose: bool,
    },
    /// Nobody can tell who holds it.
    #[error("the lock cannot be reached")]
    Unavailable(#[source] anyhow::Error),
}

/// A held lock; dropping it releases.
pub struct Guard {
    token: i64,
    expires: Instant,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Guard {
    /// A lock that was granted at `asked` (taken before asking) for `ttl`.
    pub fn new(
        token: i64,
        asked: Instant,
        ttl: Duration,
        release: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { token, expires: asked + ttl, release: Some(Box::new(release)) }
    }

    /// The fencing token.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Whether the lease has not run out, by this process's monotonic clock.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.expires
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("token", &self.token).finish_non_exhaustive()
    }
}
