use std::{ops::RangeInclusive, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use crate::LockError;

/// The pause before another attempt, in milliseconds: random, so that those who met once do not
/// meet again.
const PAUSE_MS: RangeInclusive<u64> = 10..=60;

/// How often, and for how long, a lock is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    attempts: u32,
    budget: Duration,
}

impl Schedule {
    pub(crate) const fn new(attempts: u32, budget: Duration) -> Self {
        Self { attempts, budget }
    }

    /// Tries until there is an answer that another attempt would not change, or the attempts or the
    /// time are used up. A twin of this request is not waited for here: its answer is ours as well.
    pub(crate) async fn run<T, F>(self, mut attempt: impl FnMut() -> F) -> Result<T, LockError>
    where
        F: Future<Output = Result<T, LockError>>,
    {
        let deadline = Instant::now() + self.budget;
        let mut last = LockError::Unavailable;
        for _ in 0..self.attempts {
            match timeout_at(deadline, attempt()).await {
                Ok(Err(LockError::Busy { same_purpose: false })) => {
                    last = LockError::Busy { same_purpose: false };
                }
                Ok(settled) => return settled,
                Err(_elapsed) => break,
            }
            let pause = Duration::from_millis(rand::random_range(PAUSE_MS));
            if Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: LockError = LockError::Busy { same_purpose: false };

    async fn run(
        attempts: u32,
        mut answers: Vec<Result<(), LockError>>,
    ) -> (Result<(), LockError>, usize) {
        let mut asked = 0;
        let schedule = Schedule::new(attempts, Duration::from_millis(150));
        let outcome = schedule
            .run(|| {
                asked += 1;
                std::future::ready(answers.remove(0))
            })
            .await;
        (outcome, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_stranger_who_may_be_gone_in_a_moment_is_worth_another_attempt() {
        assert!(matches!(run(3, vec![Err(BUSY), Ok(())]).await, (Ok(()), 2)));
        assert!(matches!(run(3, vec![Err(BUSY), Err(BUSY), Err(BUSY)]).await, (Err(BUSY), 3)));
        let twin = LockError::Busy { same_purpose: true };
        assert!(matches!(run(3, vec![Err(twin)]).await, (Err(_), 1)));
        let nobody = LockError::Unavailable;
        assert!(matches!(run(3, vec![Err(nobody)]).await, (Err(LockError::Unavailable), 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_never_exceeded() {
        let started = Instant::now();
        let schedule = Schedule::new(u32::MAX, Duration::from_millis(150));
        let outcome: Result<(), _> = schedule
            .run(|| async {
                sleep(Duration::from_millis(29)).await;
                Err(BUSY)
            })
            .await;
        assert!(matches!(outcome, Err(BUSY)));
        assert!(started.elapsed() <= Duration::from_millis(150));
        let stuck: Result<(), _> = schedule.run(std::future::pending).await;
        assert!(matches!(stuck, Err(LockError::Unavailable)));
    }
}
