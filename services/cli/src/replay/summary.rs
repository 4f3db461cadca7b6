//! What a run did, for programs: the JSON of `--report`.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use super::{drive::Outcome, pace::Pace, report::Report, tally::Counts};
use crate::out;

/// How many failed orders are described.
const LISTED: usize = 20;

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    /// Begins the idempotency keys of the run.
    run: &'a str,
    /// What was planned, in orders a second.
    rate: f64,
    orders: Tallied,
    /// Orders that are not known to have completed, the first twenty.
    failures: Vec<Failure<'a>>,
    requests: &'a Counts,
    pace: Pace,
    /// Whether orders, money and stock are exactly what the file says.
    exact: bool,
    mismatches: &'a [String],
}

/// What became of the orders. Every planned one is completed, cancelled or failed.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Tallied {
    planned: usize,
    accepted: usize,
    completed: usize,
    cancelled: usize,
    /// Never accepted, or not final when patience ended.
    failed: usize,
}

#[derive(Debug, Serialize)]
struct Failure<'a> {
    invoice: &'a str,
    order: Option<&'a str>,
    why: &'a str,
}

impl<'a> Summary<'a> {
    pub(super) fn new(
        (run, rate): (&'a str, f64),
        outcomes: &'a [Outcome],
        counts: &'a Counts,
        report: &'a Report,
    ) -> Self {
        Self {
            run,
            rate,
            orders: Tallied::of(outcomes),
            failures: outcomes.iter().filter_map(failure).take(LISTED).collect(),
            requests: counts,
            pace: Pace::of(outcomes),
            exact: report.exact(),
            mismatches: report.mismatches(),
        }
    }

    /// Writes it to a file, or to standard output for `-`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        if file == Path::new("-") {
            out::line(&text);
            return Ok(());
        }
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Tallied {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut all = Self { planned: outcomes.len(), ..Self::default() };
        for outcome in outcomes {
            all.accepted += usize::from(outcome.order.is_some());
            match &outcome.order {
                Some(order) if order.completed() => all.completed += 1,
                Some(order) if order.is_final() => all.cancelled += 1,
                Some(_) | None => all.failed += 1,
            }
        }
        all
    }
}

fn failure(outcome: &Outcome) -> Option<Failure<'_>> {
    let order = outcome.order.as_ref();
    if order.is_some_and(super::client::OrderView::completed) {
        return None;
    }
    let cancelled = order.and_then(|order| order.cancel_reason.as_deref());
    let why = outcome.failure.as_deref().or(cancelled).unwrap_or("not final");
    Some(Failure { invoice: &outcome.invoice, order: order.map(|order| order.id.as_str()), why })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::{
        super::client::{Money, OrderView},
        *,
    };

    fn outcome(status: Option<&str>, failure: Option<&str>) -> Outcome {
        let order = status.map(|status| OrderView {
            id: "order".to_owned(),
            status: status.to_owned(),
            amount: Money { minor_units: 20 },
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            cancel_reason: (status == "CANCELLED").then(|| "TIMEOUT".to_owned()),
        });
        Outcome {
            invoice: "1".to_owned(),
            customer: "7".to_owned(),
            key: "replay-run-1".to_owned(),
            accepted_after: order.as_ref().map(|_| Duration::from_millis(5)),
            accepted_at: None,
            order,
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn every_planned_order_is_completed_cancelled_or_failed_and_the_latter_say_why() {
        let outcomes = [
            outcome(Some("COMPLETED"), None),
            outcome(Some("CANCELLED"), None),
            outcome(Some("PENDING"), Some("still PENDING after 180 s")),
            outcome(None, Some("not accepted: 503 unavailable")),
        ];
        let counts = Counts::default();
        let report = Report::default();
        let summary = Summary::new(("run", 5.0), &outcomes, &counts, &report);
        let expected = Tallied { planned: 4, accepted: 3, completed: 1, cancelled: 1, failed: 2 };
        assert_eq!(summary.orders, expected);
        let why: Vec<&str> = summary.failures.iter().map(|failure| failure.why).collect();
        assert_eq!(why, ["TIMEOUT", "still PENDING after 180 s", "not accepted: 503 unavailable"]);
    }
}
