//! How long the caller of the present request waits: a limit for all that the request does, here,
//! in the database and with other services.

use std::time::Duration;

use tokio::time::{Instant, error::Elapsed, timeout_at};

tokio::task_local! {
    static END: Instant;
}

/// Does `work` for a caller who waits for `limit`, and gives it up then. Within another one the
/// earlier end counts. Tasks that the work starts have no deadline: nobody waits for them.
///
/// # Errors
/// It took longer.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let end = Instant::now() + limit;
    let end = END.try_with(|outer| end.min(*outer)).unwrap_or(end);
    timeout_at(end, END.scope(end, work)).await
}

/// How much longer the caller waits; nothing where there is no such limit.
pub fn time_left() -> Option<Duration> {
    END.try_with(|end| end.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_left_shrinks_and_the_work_is_given_up_when_nothing_is() {
        let started = Instant::now();
        let work = async {
            assert_eq!(time_left(), Some(3 * SECOND));
            sleep(SECOND).await;
            assert_eq!(time_left(), Some(2 * SECOND));
            sleep(10 * SECOND).await;
        };
        assert!(within(3 * SECOND, work).await.is_err());
        assert_eq!(started.elapsed(), 3 * SECOND);
        assert_eq!(time_left(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_within_lasts_longer_than_the_whole() {
        let inner = |limit| within(limit, async { time_left() });
        let outer = within(3 * SECOND, async { (inner(SECOND).await, inner(5 * SECOND).await) });
        assert_eq!(outer.await, Ok((Ok(Some(SECOND)), Ok(Some(3 * SECOND)))));
    }
}
