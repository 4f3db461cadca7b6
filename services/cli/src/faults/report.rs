//! What a run, or many, found: for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::schedule::{Fault, Kind};

/// One fault of a run and how the shop took it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Injected {
    #[serde(flatten)]
    pub(super) fault: Fault,
    /// Why it was not done, if it was not.
    pub(super) skipped: Option<String>,
    /// From its end until orders are completed as fast as before, in milliseconds; none if that did
    /// not come before the last order was placed.
    pub(super) recovery_ms: Option<u64>,
    /// Whether another fault began before that.
    pub(super) disturbed: bool,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) minutes: f64,
    /// Requests to place an order, repetitions included.
    pub(super) attempts: u64,
    pub(super) accepted: u64,
    /// Orders by state and reason.
    pub(super) orders: BTreeMap<String, u64>,
    /// Why attempts were not accepted.
    pub(super) refused: BTreeMap<String, u64>,
    /// Completed orders a second before the first fault.
    pub(super) before: f64,
    /// Orders that were completed in each second of the load and after it.
    pub(super) completed_each_second: Vec<usize>,
    pub(super) faults: Vec<Injected>,
    /// Requests that were never accepted.
    pub(super) lost: Vec<String>,
    /// Invariants that do not hold, and whatever else went wrong.
    pub(super) violations: Vec<String>,
}

impl Run {
    /// A run of which nothing can be said but that it did not come to its end.
    pub(super) fn broken(seed: u64, minutes: f64, error: &anyhow::Error) -> Self {
        let violations = vec![format!("the run broke off: {error:#}")];
        Self { seed, minutes, violations, ..Self::default() }
    }

    pub(super) fn sound(&self) -> bool {
        self.lost.is_empty() && self.violations.is_empty()
    }
}

/// How often a kind was injected, and how soon it was over.
#[derive(Clone, Debug, Default, Serialize)]
struct Line {
    injected: u64,
    skipped: u64,
    /// Recoveries that were measured.
    measured: u64,
    /// Those of them during which another fault began.
    disturbed: u64,
    p50_ms: u64,
    p99_ms: u64,
    longest_ms: u64,
}

/// All runs together.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    runs: usize,
    sound: usize,
    attempts: u64,
    accepted: u64,
    orders: BTreeMap<String, u64>,
    kinds: BTreeMap<Kind, Line>,
    all: Line,
    lost: usize,
    violations: usize,
}

impl Summary {
    pub(super) fn of(runs: &[Run]) -> Self {
        let mut by_kind: BTreeMap<Kind, Vec<&Injected>> = BTreeMap::new();
        let mut orders: BTreeMap<String, u64> = BTreeMap::new();
        for run in runs {
            for injected in &run.faults {
                by_kind.entry(injected.fault.kind).or_default().push(injected);
            }
            for (how, count) in &run.orders {
                *orders.entry(how.clone()).or_default() += count;
            }
        }
        Self {
            runs: runs.len(),
            sound: runs.iter().filter(|run| run.sound()).count(),
            attempts: runs.iter().map(|run| run.attempts).sum(),
            accepted: runs.iter().map(|run| run.accepted).sum(),
            orders,
            all: line(&by_kind.values().flatten().copied().collect::<Vec<_>>()),
            kinds: by_kind.into_iter().map(|(kind, all)| (kind, line(&all))).collect(),
            lost: runs.iter().map(|run| run.lost.len()).sum(),
            violations: runs.iter().map(|run| run.violations.len()).sum(),
        }
    }

    /// As two tables in Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("| Orders | |\n| --- | ---: |\n");
        for (how, count) in &self.orders {
            let _infallible = writeln!(text, "| {how} | {count} |");
        }
        let rest = [
            ("requests to place them, repetitions included", self.attempts),
            ("accepted", self.accepted),
            ("requests lost", self.lost as u64),
            ("faults that could not be done", self.all.skipped),
            ("violations", self.violations as u64),
            ("runs", self.runs as u64),
            ("of them sound", self.sound as u64),
        ];
        for (what, count) in rest {
            let _infallible = writeln!(text, "| {what} | {count} |");
        }
        text.push_str("\n| Fault | Injected | Recovery p50 | p99 | longest | measured | another in between |\n");
        text.push_str("| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        let kinds = self.kinds.iter().map(|(kind, line)| (kind.name(), line));
        for (name, line) in kinds.chain([("all".to_owned(), &self.all)]) {
            let times = [line.p50_ms, line.p99_ms, line.longest_ms];
            let [p50, p99, longest] = match line.measured {
                0 => times.map(|_| "-".to_owned()),
                _ => times.map(seconds),
            };
            let _infallible = writeln!(
                text,
                "| {name} | {} | {p50} | {p99} | {longest} | {} | {} |",
                line.injected, line.measured, line.disturbed
            );
        }
        text
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}

fn line(all: &[&Injected]) -> Line {
    let mut times: Vec<u64> = all.iter().filter_map(|injected| injected.recovery_ms).collect();
    times.sort_unstable();
    let skipped = all.iter().filter(|injected| injected.skipped.is_some()).count();
    Line {
        injected: (all.len() - skipped) as u64,
        skipped: skipped as u64,
        measured: times.len() as u64,
        disturbed: all.iter().filter(|one| one.recovery_ms.is_some() && one.disturbed).count()
            as u64,
        p50_ms: rank(&times, 50),
        p99_ms: rank(&times, 99),
        longest_ms: rank(&times, 100),
    }
}

/// The nearest-rank percentile; 0 of nothing.
fn rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// One run for people.
pub(super) fn text(run: &Run) -> String {
    let mut text = String::new();
    for injected in &run.faults {
        let how = match (&injected.skipped, injected.recovery_ms) {
            (Some(why), _) => format!("not done: {why}"),
            (None, Some(ms)) => format!("back after {}", seconds(ms)),
            (None, None) => "not back before the load ended".to_owned(),
        };
        let how = if injected.disturbed { format!("{how}, another in between") } else { how };
        let _infallible = writeln!(text, "{}: {how}", injected.fault);
    }
    let _infallible = writeln!(
        text,
        "{} accepted with {} requests; {:.1} completed a second before the first fault",
        run.accepted, run.attempts, run.before
    );
    let counts = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
    };
    let _infallible = writeln!(text, "orders: {}", counts(&run.orders));
    if !run.refused.is_empty() {
        let _infallible = writeln!(text, "refused for a while: {}", counts(&run.refused));
    }
    for lost in &run.lost {
        let _infallible = writeln!(text, "LOST {lost}");
    }
    for violation in &run.violations {
        let _infallible = writeln!(text, "VIOLATION {violation}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(recovery_ms: Option<u64>, skipped: Option<&str>) -> Injected {
        let fault = Fault { at_ms: 0, kind: Kind::Kill, target: String::new(), lasts_ms: 0 };
        Injected { fault, skipped: skipped.map(str::to_owned), recovery_ms, disturbed: false }
    }

    #[test]
    fn what_was_not_done_is_not_counted_as_injected() {
        let all = [injected(Some(10), None), injected(None, Some("no")), injected(Some(30), None)];
        let line = line(&all.iter().collect::<Vec<_>>());
        assert_eq!((line.injected, line.skipped, line.measured), (2, 1, 2));
        assert_eq!((line.p50_ms, line.p99_ms), (10, 30));
    }
}
