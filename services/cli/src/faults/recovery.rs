//! How soon after a fault orders are completed as fast as before.

use std::time::Duration;

/// The part of the undisturbed throughput that counts as being back.
pub(super) const BACK: f64 = 0.8;
/// The part of the placed orders that must be completed before the first fault, or else there is
/// nothing to compare with: the machine has other things to do.
pub(super) const MEASURABLE: f64 = 0.4;
/// Throughput is counted over so long.
const WINDOW: Duration = Duration::from_secs(2);
/// How finely the return is looked for.
const STEP: Duration = Duration::from_millis(50);

/// When orders were completed, from the start of the load, and how many a second that was before
/// the first fault.
#[derive(Debug)]
pub(super) struct Throughput {
    completed: Vec<Duration>,
    before: f64,
}

impl Throughput {
    /// `undisturbed` is the span that the rest is compared with.
    pub(super) fn new(mut completed: Vec<Duration>, undisturbed: (Duration, Duration)) -> Self {
        completed.sort_unstable();
        let mut throughput = Self { completed, before: 0.0 };
        let (from, to) = undisturbed;
        throughput.before = rate(throughput.count(from, to), to.saturating_sub(from));
        throughput
    }

    /// Completed orders a second before the first fault.
    pub(super) const fn before(&self) -> f64 {
        self.before
    }

    /// From `end` to the first moment before `limit` from which on orders are completed fast
    /// enough again; none if that does not come.
    pub(super) fn recovery(&self, end: Duration, limit: Duration) -> Option<Duration> {
        let mut after = Duration::ZERO;
        while end + after + WINDOW <= limit {
            let at = end + after;
            if rate(self.count(at, at + WINDOW), WINDOW) >= BACK * self.before {
                return Some(after);
            }
            after += STEP;
        }
        None
    }

    /// Completed orders in each second from the start.
    pub(super) fn each_second(&self) -> Vec<usize> {
        let last = self.completed.last().map_or(0, Duration::as_secs);
        let second =
            |number| self.count(Duration::from_secs(number), Duration::from_secs(number + 1));
        (0..=last).map(second).collect()
    }

    fn count(&self, from: Duration, to: Duration) -> usize {
        let before = |time: Duration| self.completed.partition_point(|at| *at < time);
        before(to).saturating_sub(before(from))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of orders within seconds")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Four orders a second, except from 10 s to 13 s.
    fn outage() -> Throughput {
        let completed =
            (0..120).map(|n| ms(n * 250)).filter(|at| *at < ms(10_000) || *at >= ms(13_000));
        Throughput::new(completed.collect(), (ms(2_000), ms(10_000)))
    }

    #[test]
    fn a_fault_that_stopped_everything_is_recovered_from_when_orders_flow_again() {
        let throughput = outage();
        assert!((throughput.before() - 4.0).abs() < 0.01);
        // It ends at 11 s; orders are completed again from 13 s on, and a gap of one fifth of the
        // window counts as nothing.
        let found = throughput.recovery(ms(11_000), ms(30_000)).unwrap();
        assert!(found >= ms(1_500) && found <= ms(2_000), "{found:?}");
    }

    #[test]
    fn a_fault_that_nobody_noticed_takes_no_time_to_recover_from() {
        assert_eq!(outage().recovery(ms(20_000), ms(30_000)), Some(Duration::ZERO));
    }

    #[test]
    fn what_does_not_come_back_in_time_has_no_recovery() {
        assert_eq!(outage().recovery(ms(10_100), ms(12_500)), None);
    }
}
