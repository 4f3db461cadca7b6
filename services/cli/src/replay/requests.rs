//! What was asked for, in the form that `portolan audit --requests` reads.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;
use serde_json::json;

use super::drive::Outcome;

/// Writes one line for each order of the run. One that was never accepted has no order.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(file: &Path, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let all = || {
        let mut out = BufWriter::new(File::create(file)?);
        for outcome in outcomes {
            writeln!(out, "{}", line(outcome))?;
        }
        out.flush()
    };
    all().with_context(|| format!("cannot write {}", file.display()))
}

fn line(outcome: &Outcome) -> serde_json::Value {
    let order = outcome.order.as_ref().map(|order| &order.id);
    json!({"user": outcome.customer, "key": outcome.key, "order": order})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_was_never_accepted_is_asked_for_without_an_order() {
        let outcome = Outcome {
            invoice: "1".to_owned(),
            customer: "7".to_owned(),
            key: "replay-run-1".to_owned(),
            accepted_after: None,
            accepted_at: None,
            order: None,
            failure: None,
        };
        let expected = json!({"user": "7", "key": "replay-run-1", "order": null});
        assert_eq!(line(&outcome), expected);
    }
}
