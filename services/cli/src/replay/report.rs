//! What a run did, compared with what the file says.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use super::{
    drive::Outcome,
    file::Orders,
    pace::{Pace, Percentiles},
    tally::Counts,
};
use crate::out::Screen;

/// How many mismatches of a kind are listed.
const LISTED: usize = 10;

/// Everything that is compared.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) file: &'a Orders,
    pub(super) outcomes: &'a [Outcome],
    /// What the payment service says it captured for each order id, where it could be asked.
    pub(super) captured: Option<&'a BTreeMap<String, i64>>,
    pub(super) before: &'a BTreeMap<String, i64>,
    pub(super) after: &'a BTreeMap<String, i64>,
    pub(super) counts: &'a Counts,
}

/// The findings, and whether everything agrees.
#[derive(Debug, Default)]
pub(super) struct Report {
    text: String,
    /// Whether the payments could be compared too.
    paid: bool,
    mismatches: Vec<String>,
}

impl Report {
    pub(super) fn new(evidence: &Evidence<'_>) -> Self {
        let mut report = Self { paid: evidence.captured.is_some(), ..Self::default() };
        report.orders(evidence);
        report.money(evidence);
        report.stock(evidence);
        report.pace(evidence);
        report
    }

    pub(super) fn exact(&self) -> bool {
        self.mismatches.is_empty()
    }

    /// What differs from the file.
    pub(super) fn mismatches(&self) -> &[String] {
        &self.mismatches
    }

    /// The whole report, ending with the verdict.
    pub(super) fn render(&self, screen: Screen) -> String {
        let mut text = self.text.clone();
        if self.exact() {
            text.push_str(&screen.paint("32", self.agreement()));
            return text;
        }
        text.push_str(&screen.paint("31", "MISMATCH"));
        for mismatch in &self.mismatches {
            let _infallible = write!(text, "\n  - {mismatch}");
        }
        text
    }

    /// Says no more than what was compared.
    const fn agreement(&self) -> &'static str {
        if self.paid {
            "exact: the run and the file agree"
        } else {
            "orders and stock agree; captured money was not compared"
        }
    }

    fn line(&mut self, head: &str, text: &str) {
        let _infallible = writeln!(self.text, "{head:<20}{text}");
    }

    fn orders(&mut self, evidence: &Evidence<'_>) {
        let outcomes = evidence.outcomes;
        let completed = finals(outcomes).count();
        let accepted = outcomes.iter().filter(|outcome| outcome.order.is_some()).count();
        self.line(
            "orders",
            &format!(
                "{} in the file with {} lines, {accepted} accepted, {completed} completed",
                evidence.file.placed.len(),
                evidence.file.lines,
            ),
        );
        let unfinished = outcomes.iter().filter_map(|outcome| {
            let why = match (&outcome.failure, &outcome.order) {
                (Some(why), _) => why.clone(),
                (None, Some(order)) if order.completed() => return None,
                (None, Some(order)) => {
                    format!("{} {}", order.status, order.cancel_reason.as_deref().unwrap_or(""))
                }
                (None, None) => "unknown".to_owned(),
            };
            Some(format!("invoice {} did not complete: {why}", outcome.invoice))
        });
        self.list(unfinished.collect());
        if outcomes.len() != evidence.file.placed.len() {
            self.mismatches.push("not every order of the file was sent".to_owned());
        }
    }

    fn money(&mut self, evidence: &Evidence<'_>) {
        let file = evidence.file;
        let ordered: i64 = finals(evidence.outcomes).map(|order| order.amount.minor_units).sum();
        let (captured, from) = match evidence.captured {
            Some(captured) => (captured.values().sum(), "captured by payment"),
            None => (ordered, "total of the completed orders"),
        };
        self.line(
            "money",
            &format!("{captured} {from}, {} expected at catalogue prices", file.catalogue_minor),
        );
        self.line(
            "",
            &format!(
                "{} historic total; {} of {} lines had another price then",
                file.historic_minor, file.other_price, file.lines
            ),
        );
        if captured != file.catalogue_minor {
            self.mismatches.push(format!("{captured} {from}, expected {}", file.catalogue_minor));
        }
        self.prices(evidence);
        if let Some(captured) = evidence.captured {
            let differing = finals(evidence.outcomes).filter_map(|order| {
                let charged = captured.get(&order.id).copied();
                (charged != Some(order.amount.minor_units)).then(|| {
                    format!(
                        "order {} of {}: captured {charged:?}",
                        order.id, order.amount.minor_units
                    )
                })
            });
            self.list(differing.collect());
        }
    }

    /// Each order's amount against its own lines: the errors of two orders do not cancel out.
    fn prices(&mut self, evidence: &Evidence<'_>) {
        let expected: HashMap<&str, i64> = evidence
            .file
            .placed
            .iter()
            .map(|order| (order.invoice.as_str(), order.catalogue_minor))
            .collect();
        let wrong = evidence.outcomes.iter().filter_map(|outcome| {
            let amount = outcome.order.as_ref()?.amount.minor_units;
            let expected = expected.get(outcome.invoice.as_str()).copied().unwrap_or(0);
            (amount != expected).then(|| {
                format!("invoice {}: order of {amount}, its lines make {expected}", outcome.invoice)
            })
        });
        self.list(wrong.collect());
    }

    fn stock(&mut self, evidence: &Evidence<'_>) {
        let mut other_traffic = false;
        let mut wrong = Vec::new();
        let mut fell = 0;
        for (sku, before) in evidence.before {
            let expected = evidence.file.units.get(sku).copied().unwrap_or(0);
            let actual = before - evidence.after.get(sku).copied().unwrap_or(0);
            fell += actual;
            if actual != expected {
                other_traffic |= expected == 0;
                wrong.push(format!("stock of {sku} down by {actual}, expected {expected}"));
            }
        }
        let expected: i64 = evidence.file.units.values().sum();
        self.line(
            "stock",
            &format!(
                "down by {fell} units, {expected} expected, of {} products",
                evidence.file.units.len()
            ),
        );
        if other_traffic {
            self.mismatches.push(
                "products that are in no order of the file moved too: there was other traffic"
                    .to_owned(),
            );
        }
        self.list(wrong);
    }

    fn pace(&mut self, evidence: &Evidence<'_>) {
        let pace = Pace::of(evidence.outcomes);
        for (head, rate) in
            [("accepted", pace.accepted_per_second), ("completed", pace.completed_per_second)]
        {
            if let Some(rate) = rate {
                self.line(head, &format!("{rate:.1} orders/s"));
            }
        }
        self.line("POST to 202", &percentiles(&pace.accepted_ms));
        self.line("POST to COMPLETED", &percentiles(&pace.completed_ms));
        self.line(
            "",
            "(to 202 by our clock with repetitions, from placed to completed by the server's)",
        );
        let failed = evidence.counts.failed();
        let total: u64 = failed.values().sum();
        let reasons: Vec<String> =
            failed.iter().map(|(why, count)| format!("{count} x {why}")).collect();
        self.line("repeated requests", &format!("{total} {}", reasons.join(", ")));
    }

    fn list(&mut self, mismatches: Vec<String>) {
        let more = mismatches.len().saturating_sub(LISTED);
        self.mismatches.extend(mismatches.into_iter().take(LISTED));
        if more > 0 {
            self.mismatches.push(format!("... and {more} more like this"));
        }
    }
}

fn finals(outcomes: &[Outcome]) -> impl Iterator<Item = &super::client::OrderView> {
    outcomes.iter().filter_map(|outcome| outcome.order.as_ref()).filter(|order| order.completed())
}

fn percentiles(of: &Percentiles) -> String {
    format!("p50 {} ms, p95 {} ms, p99 {} ms", of.p50, of.p95, of.p99)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::super::client::{Money, OrderView};
    use super::super::file::Order;
    use super::*;

    fn file() -> Orders {
        Orders {
            placed: vec![Order {
                invoice: "1".to_owned(),
                customer: "7".to_owned(),
                lines: BTreeMap::from([("A".to_owned(), 2)]),
                catalogue_minor: 20,
                ..Order::default()
            }],
            lines: 1,
            historic_minor: 18,
            catalogue_minor: 20,
            other_price: 1,
            units: BTreeMap::from([("A".to_owned(), 2)]),
        }
    }

    fn outcome(status: &str) -> Outcome {
        Outcome {
            invoice: "1".to_owned(),
            customer: "7".to_owned(),
            key: "replay-run-1".to_owned(),
            accepted_after: Some(Duration::from_millis(5)),
            accepted_at: Some(Duration::from_millis(9)),
            order: Some(OrderView {
                id: "order".to_owned(),
                status: status.to_owned(),
                amount: Money { minor_units: 20 },
                created_at: OffsetDateTime::UNIX_EPOCH,
                updated_at: OffsetDateTime::UNIX_EPOCH + Duration::from_millis(70),
                cancel_reason: None,
            }),
            failure: None,
        }
    }

    fn stock(a: i64, b: i64) -> BTreeMap<String, i64> {
        BTreeMap::from([("A".to_owned(), a), ("B".to_owned(), b)])
    }

    fn judge(outcome: Outcome, captured: i64, after: &BTreeMap<String, i64>) -> Report {
        Report::new(&Evidence {
            file: &file(),
            outcomes: &[outcome],
            captured: Some(&BTreeMap::from([("order".to_owned(), captured)])),
            before: &stock(10, 10),
            after,
            counts: &Counts::default(),
        })
    }

    #[test]
    fn a_run_that_did_exactly_what_the_file_says_agrees() {
        let report = judge(outcome("COMPLETED"), 20, &stock(8, 10));
        assert!(report.exact(), "{:?}", report.mismatches);
        assert!(report.text.contains("p99 75 ms"), "{}", report.text);
    }

    #[test]
    fn every_difference_is_a_mismatch() {
        assert!(!judge(outcome("CANCELLED"), 20, &stock(8, 10)).exact(), "not completed");
        assert!(!judge(outcome("COMPLETED"), 19, &stock(8, 10)).exact(), "money");
        assert!(!judge(outcome("COMPLETED"), 20, &stock(7, 10)).exact(), "stock");
        let failed = Outcome { failure: Some("lost".to_owned()), ..outcome("COMPLETED") };
        assert!(!judge(failed, 20, &stock(8, 10)).exact(), "not final");
    }

    #[test]
    fn opposite_errors_of_two_orders_do_not_cancel_out() {
        let mut file = file();
        file.placed.push(Order { invoice: "2".to_owned(), ..file.placed[0].clone() });
        file.catalogue_minor = 40;
        file.units.insert("A".to_owned(), 4);
        let priced = |invoice: &str, minor_units| {
            let mut outcome = outcome("COMPLETED");
            outcome.invoice = invoice.to_owned();
            outcome.order.as_mut().unwrap().amount.minor_units = minor_units;
            outcome
        };
        let judge = |outcomes: &[Outcome]| {
            Report::new(&Evidence {
                file: &file,
                outcomes,
                captured: None,
                before: &stock(10, 10),
                after: &stock(6, 10),
                counts: &Counts::default(),
            })
        };
        let right = judge(&[priced("1", 20), priced("2", 20)]);
        assert!(right.exact(), "{:?}", right.mismatches);
        assert!(right.agreement().contains("captured money was not compared"));
        let wrong = judge(&[priced("1", 19), priced("2", 21)]);
        let named = |invoice: &str| wrong.mismatches.iter().any(|text| text.contains(invoice));
        assert!(named("invoice 1:") && named("invoice 2:"), "{:?}", wrong.mismatches);
    }

    #[test]
    fn other_traffic_is_told_apart_by_products_that_the_file_does_not_have() {
        let report = judge(outcome("COMPLETED"), 20, &stock(8, 9));
        assert!(report.mismatches.iter().any(|text| text.contains("other traffic")));
    }
}
