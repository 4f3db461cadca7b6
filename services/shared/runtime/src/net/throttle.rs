use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(1);

/// Keeps what strangers can cause at will from filling the log: one line a second.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Whether to write this line now: then how many were left out before it.
    pub(super) fn admit(&self) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.last.is_some_and(|last| last.elapsed() < PERIOD) {
            lines.left_out += 1;
            return None;
        }
        lines.last = Some(Instant::now());
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_says_how_many_were_left_out() {
        let throttle = Throttle::default();
        assert_eq!([throttle.admit(), throttle.admit(), throttle.admit()], [Some(0), None, None]);
        tokio::time::advance(PERIOD).await;
        assert_eq!([throttle.admit(), throttle.admit()], [Some(2), None]);
        tokio::time::advance(PERIOD).await;
        assert_eq!(throttle.admit(), Some(1));
    }
}
