//! Waiting for others without filling the log.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use portolan_runtime::one_line;
use tokio::time::{Instant, sleep};

use crate::out;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// What was said, so that the same is not said all the time.
#[derive(Debug, Default)]
pub(crate) struct Said {
    lines: HashMap<String, Instant>,
}

impl Said {
    /// Whether it is time to say this: for the first time, or after `again`.
    pub(crate) fn is_due(&mut self, line: &str, again: Duration) -> bool {
        let now = Instant::now();
        let due = self.lines.get(line).is_none_or(|before| now - *before >= again);
        if due {
            self.lines.insert(line.to_owned(), now);
        }
        due
    }

    /// Everything is news again.
    pub(crate) fn forget(&mut self) {
        self.lines.clear();
    }
}

/// How long a step may take that depends on others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// In all.
    pub limit: Duration,
}

impl Patience {
    /// Tries until it works, and says why it waits once for each cause.
    ///
    /// # Errors
    /// The last try's, when the time is up.
    pub(crate) async fn until_done<T>(
        self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + self.limit;
        let mut said = Said::default();
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if Instant::now() + PAUSE > end {
                return Err(error).with_context(|| format!("{what}: given up"));
            }
            let cause = one_line(error.as_ref());
            if said.is_due(&cause, self.limit) {
                out::error(&format!("{what}: trying again: {cause}"));
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_tries_until_it_works_or_the_time_is_up() {
        let patience = Patience { limit: Duration::from_secs(10) };
        let mut tries = 0;
        let done = patience.until_done("it", async || {
            tries += 1;
            anyhow::ensure!(tries >= 5, "not yet");
            Ok(tries)
        });
        assert_eq!(done.await.unwrap(), 5);
        let mut tries = 0;
        let never = patience.until_done("it", async || {
            tries += 1;
            Err::<(), _>(anyhow::anyhow!("never"))
        });
        let error = one_line(never.await.unwrap_err().as_ref());
        assert_eq!(error, "it: given up: never");
        assert!((10..=11).contains(&tries), "{tries}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_not_said_twice_within_the_time() {
        let (mut said, again) = (Said::default(), Duration::from_secs(30));
        assert!(said.is_due("a", again) && said.is_due("b", again));
        sleep(Duration::from_secs(29)).await;
        assert!(!said.is_due("a", again));
        sleep(Duration::from_secs(1)).await;
        assert!(said.is_due("a", again));
        said.forget();
        assert!(said.is_due("a", again));
    }
}
