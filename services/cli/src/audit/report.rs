//! What the auditor found, as a table for people and as JSON for programs.

use std::fmt::Display;

use serde::Serialize;

/// How many offending rows a finding names; the others are only counted.
const NAMED: usize = 5;

/// One invariant held against everything that was read.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// Its number in the design: `I1` to `I10` hold at any time, `Q1` to `Q9` at rest.
    pub(super) id: &'static str,
    /// What must hold.
    pub(super) says: &'static str,
    /// How many rows were looked at.
    pub(super) checked: u64,
    /// How many of them break it.
    pub(super) violations: u64,
    /// The first offending rows.
    pub(super) first: Vec<String>,
    /// Why nothing was looked at, if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<&'static str>,
}

impl Finding {
    /// A finding with nothing looked at yet.
    pub(super) fn new(id: &'static str, says: &'static str) -> Self {
        Self { id, says, checked: 0, violations: 0, first: Vec::new(), skipped: None }
    }

    /// Counts one row and, unless `holds`, a violation described by `offender`.
    pub(super) fn expect<D: Display>(&mut self, holds: bool, offender: impl FnOnce() -> D) {
        self.checked += 1;
        if !holds {
            self.violate(offender());
        }
    }

    /// Counts a violation in a row that was counted already.
    pub(super) fn violate(&mut self, offender: impl Display) {
        self.violations += 1;
        if self.first.len() < NAMED {
            self.first.push(offender.to_string());
        }
    }
}

/// How the audit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Every invariant that was checked holds.
    Clean,
    /// At least one does not.
    Violated,
    /// Work was still going on when the time to settle was over.
    NotAtRest,
}

/// Everything the auditor has to say.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How it ended.
    pub(super) verdict: Verdict,
    /// Whether only what holds at any time was checked.
    pub(super) online: bool,
    /// One for each invariant.
    pub(super) findings: Vec<Finding>,
    /// What was not at rest.
    pub(super) unfinished: Vec<String>,
    /// What was passed over, and why.
    pub(super) notes: Vec<String>,
}

impl Report {
    /// The verdict follows from the findings and from what is unfinished.
    pub(super) fn new(
        online: bool,
        findings: Vec<Finding>,
        unfinished: Vec<String>,
        notes: Vec<String>,
    ) -> Self {
        let verdict = if findings.iter().any(|finding| finding.violations > 0) {
            Verdict::Violated
        } else if unfinished.is_empty() {
            Verdict::Clean
        } else {
            Verdict::NotAtRest
        };
        Self { verdict, online, findings, unfinished, notes }
    }

    /// Whether an invariant that must hold at any time is broken.
    pub(super) fn breaks_at_any_time(&self) -> bool {
        self.findings.iter().any(|finding| finding.id.starts_with('I') && finding.violations > 0)
    }

    /// Every violation, and what was not at rest, a line each; empty when all is well.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let broken = self.findings.iter().filter(|finding| finding.violations > 0);
        let lines = broken.flat_map(|finding| {
            let Finding { id, violations, first, .. } = finding;
            first.iter().map(move |offender| format!("{id} ({violations}): {offender}"))
        });
        let unfinished = self.unfinished.iter().map(|work| format!("not at rest: {work}"));
        lines.chain(unfinished).collect()
    }

    /// The report as text.
    pub(super) fn table(&self) -> String {
        let mut lines =
            vec![format!("{:<4} {:>9} {:>10}  WHAT MUST HOLD", "", "CHECKED", "VIOLATIONS")];
        for finding in &self.findings {
            let Finding { id, says, checked, violations, first, skipped } = finding;
            if let Some(why) = skipped {
                lines.push(format!("{id:<4} {:>9} {:>10}  {says}: not checked ({why})", "-", "-"));
                continue;
            }
            lines.push(format!("{id:<4} {checked:>9} {violations:>10}  {says}"));
            lines.extend(first.iter().map(|offender| format!("{:>26}- {offender}", "")));
            let unnamed = violations.saturating_sub(first.len() as u64);
            if unnamed > 0 {
                lines.push(format!("{:>26}- and {unnamed} more", ""));
            }
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.extend(self.unfinished.iter().map(|work| format!("not at rest: {work}")));
        lines.push(self.summary());
        lines.join("\n")
    }

    fn summary(&self) -> String {
        let violated = self.findings.iter().filter(|finding| finding.violations > 0).count();
        let held = self.findings.iter().filter(|finding| finding.skipped.is_none()).count();
        match self.verdict {
            Verdict::Clean => format!("audit: clean, {held} invariants hold"),
            Verdict::Violated => format!("audit: VIOLATED, {violated} invariants do not hold"),
            Verdict::NotAtRest => "audit: NOT AT REST, so nothing final can be said".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &'static str, violations: u64) -> Finding {
        let mut finding = Finding::new(id, "something holds");
        for row in 0..violations {
            finding.expect(false, || format!("row {row}"));
        }
        finding
    }

    #[test]
    fn a_violation_outweighs_unfinished_work() {
        let busy = vec!["order: 1 outbox row".to_owned()];
        let verdict =
            |findings, unfinished| Report::new(false, findings, unfinished, vec![]).verdict;
        assert_eq!(verdict(vec![finding("I1", 0)], vec![]), Verdict::Clean);
        assert_eq!(verdict(vec![finding("I1", 0)], busy.clone()), Verdict::NotAtRest);
        assert_eq!(verdict(vec![finding("I1", 1)], busy), Verdict::Violated);
    }

    #[test]
    fn what_was_not_checked_is_said_and_does_not_count_as_holding() {
        let mut skipped = finding("Q1", 0);
        skipped.skipped = Some("no --requests");
        let text = Report::new(false, vec![finding("I1", 0), skipped], vec![], vec![]).table();
        assert!(text.contains("not checked (no --requests)"), "{text}");
        assert!(text.ends_with("clean, 1 invariants hold"), "{text}");
    }

    #[test]
    fn the_first_offenders_are_named_and_the_others_counted() {
        let report = Report::new(false, vec![finding("Q3", 7)], vec![], vec![]);
        let text = report.table();
        assert!(text.contains("row 4") && !text.contains("row 5"), "{text}");
        assert!(text.contains("and 2 more"), "{text}");
        assert!(text.ends_with("1 invariants do not hold"), "{text}");
    }
}
