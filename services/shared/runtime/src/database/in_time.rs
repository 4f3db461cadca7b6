use std::{io, time::Duration};

use tokio::time::timeout;

/// How long a transaction for which nobody waits may take: several statements at their limits.
const LONGEST: Duration = Duration::from_secs(30);

/// Does a piece of work with the database that no request waits for, such as one transaction, and
/// gives it up after 30 seconds.
///
/// # Errors
/// Those of [`at_most`].
pub async fn in_time<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    at_most(LONGEST, work).await
}

/// Does a piece of work with the database, and gives it up after `limit`: that of its statements is
/// the server's, and a connection whose server is gone keeps none.
///
/// # Errors
/// Those of the work, or that it took too long, which is transient
/// ([`is_transient`](super::is_transient)). Whether anything was committed is not known then.
pub async fn at_most<T, E: From<sqlx::Error>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into());
    timeout(limit, work).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::database::is_transient;

    #[tokio::test(start_paused = true)]
    async fn what_is_never_answered_is_given_up_and_may_be_tried_again() {
        let started = Instant::now();
        let never = std::future::pending::<Result<(), sqlx::Error>>();
        assert!(is_transient(&in_time(never).await.unwrap_err()));
        assert_eq!(started.elapsed(), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_is_passed_on() {
        assert_eq!(in_time(async { Ok::<_, sqlx::Error>(7) }).await.unwrap(), 7);
    }
}
