use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a test waits for what must happen: many times what it takes on a busy machine, because
/// only a test that fails takes it.
pub const PATIENCE: Duration = Duration::from_mins(2);

const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`, and fails the test with `what` when that takes longer than
/// `deadline`. The way to wait for something that happens elsewhere.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_asks_until_there_is_an_answer() {
        let mut asked = 0;
        let probe = async || {
            asked += 1;
            (asked == 5).then_some(asked)
        };
        assert_eq!(eventually(Duration::from_secs(1), "five", probe).await, 5);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: the impossible")]
    async fn it_gives_up_at_the_deadline() {
        eventually(Duration::from_secs(1), "the impossible", async || None::<()>).await;
    }
}
