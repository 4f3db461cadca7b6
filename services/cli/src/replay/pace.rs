//! How fast a run was.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use super::drive::Outcome;

/// Rates and times of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Pace {
    /// Accepted orders a second, by our clock.
    pub(super) accepted_per_second: Option<f64>,
    /// Completed orders a second, by the server's clock.
    pub(super) completed_per_second: Option<f64>,
    /// From the instant the plan has for an order to the accepting answer, repetitions included.
    pub(super) accepted_ms: Percentiles,
    /// To the order's completion.
    pub(super) completed_ms: Percentiles,
}

/// The nearest-rank percentiles of some durations, in milliseconds; 0 where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: u128,
    pub(super) p95: u128,
    pub(super) p99: u128,
    pub(super) max: u128,
}

impl Pace {
    pub(super) fn of(outcomes: &[Outcome]) -> Self {
        let completed = || {
            outcomes.iter().filter_map(|outcome| {
                let order = outcome.order.as_ref().filter(|order| order.completed())?;
                Some((outcome, order))
            })
        };
        let times: Vec<Duration> = outcomes.iter().filter_map(|o| o.accepted_at).collect();
        let first = completed().map(|(_, order)| order.created_at).min();
        let last = completed().map(|(_, order)| order.updated_at).max();
        let span = first.zip(last).map(|(first, last)| between(first, last));
        let whole = completed().filter_map(|(outcome, order)| {
            Some(outcome.accepted_after? + between(order.created_at, order.updated_at))
        });
        Self {
            accepted_per_second: times.iter().max().map(|last| per_second(times.len(), *last)),
            completed_per_second: span.map(|span| per_second(completed().count(), span)),
            accepted_ms: Percentiles::of(outcomes.iter().filter_map(|o| o.accepted_after)),
            completed_ms: Percentiles::of(whole),
        }
    }
}

impl Percentiles {
    fn of(durations: impl Iterator<Item = Duration>) -> Self {
        let mut all: Vec<Duration> = durations.collect();
        all.sort_unstable();
        let at = |percent| rank(&all, percent).map_or(0, |duration| duration.as_millis());
        Self { p50: at(50), p95: at(95), p99: at(99), max: at(100) }
    }
}

/// The smallest value that at least `percent` of all do not exceed.
fn rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn between(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    Duration::try_from(to - from).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "counts of orders, for display")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(rank(&all, 50), Some(Duration::from_millis(100)));
        assert_eq!(rank(&all, 99), Some(Duration::from_millis(198)));
        assert_eq!(rank(&all[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(rank(&[], 50), None);
        let expected = Percentiles { p50: 100, p95: 190, p99: 198, max: 200 };
        assert_eq!(Percentiles::of(all.into_iter()), expected);
    }
}
