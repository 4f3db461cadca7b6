use std::time::Duration;

use tokio::time::Instant;

use crate::{Check, one_line};

/// The pauses between two attempts, which double.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What an attempt that failed says about the next one.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It may succeed.
    Later(anyhow::Error),
    /// It will fail as well.
    Never(anyhow::Error),
}

/// How long the start waits for what is not there yet, all in all, and who is told what for.
#[derive(Debug)]
pub(super) struct Patience {
    deadline: Instant,
    check: Option<Check>,
    told: String,
}

impl Patience {
    pub(super) fn new(seconds: u64, check: Option<Check>) -> Self {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        Self { deadline, check, told: String::new() }
    }

    /// Tries until it succeeds, cannot succeed any more, or the time is over. Takes no async closure:
    /// of their futures the compiler cannot tell that a service may be moved between threads.
    ///
    /// # Errors
    /// That of the last attempt.
    pub(super) async fn until<T, F: Future<Output = Result<T, Attempt>>>(
        &mut self,
        mut attempt: impl FnMut() -> F,
    ) -> anyhow::Result<T> {
        let mut pause = FIRST_PAUSE;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Attempt::Later(error)) if Instant::now() + pause < self.deadline => {
                    self.tell(one_line(error.as_ref()));
                }
                Err(Attempt::Later(error) | Attempt::Never(error)) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The check shows it at any time, the log when it is another reason than before.
    fn tell(&mut self, reason: String) {
        if self.told == reason {
            return;
        }
        tracing::info!(reason, "waiting for the database");
        if let Some(check) = &self.check {
            check.fail(reason.clone());
        }
        self.told = reason;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::anyhow;

    use super::*;
    use crate::{CheckReport, Readiness};

    fn reason(readiness: &Readiness) -> String {
        match &readiness.report().checks["database"] {
            CheckReport::Ok => "ok".to_owned(),
            CheckReport::Failed { reason } => reason.clone(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_check_says_what_is_waited_for() {
        let readiness = Readiness::new();
        let mut patience = Patience::new(60, Some(readiness.register("database", true)));
        let attempts = Cell::new(0);
        let attempt = || async {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                1 => Err(Attempt::Later(anyhow!("no file"))),
                2 => {
                    assert_eq!(reason(&readiness), "no file");
                    Err(Attempt::Later(anyhow!("no schema")))
                }
                _ => Ok(reason(&readiness)),
            }
        };
        assert_eq!(patience.until(attempt).await.unwrap(), "no schema");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_that_of_all_attempts_together() {
        let start = Instant::now();
        let mut patience = Patience::new(60, None);
        let attempts = Cell::new(0);
        let slow = || async {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 40 { Ok(()) } else { Err(Attempt::Later(anyhow!("slow"))) }
        };
        patience.until(slow).await.unwrap();
        let never = || async { Err::<(), _>(Attempt::Later(anyhow!("not there"))) };
        let error = patience.until(never).await.unwrap_err();
        assert_eq!(error.to_string(), "not there");
        assert!((59..=60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_succeed_is_not_tried_again() {
        let start = Instant::now();
        let mut patience = Patience::new(60, None);
        let never = || async { Err::<(), _>(Attempt::Never(anyhow!("wrong"))) };
        assert!(patience.until(never).await.is_err());
        assert!(start.elapsed().is_zero());
    }
}
