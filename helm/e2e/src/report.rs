use std::{fmt::Write as _, fs, io::Write as _, path::Path, time::Duration};

/// What was done, how long it took and what was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    step: &'static str,
    claim: &'static str,
    took: Duration,
    outcome: Result<String, String>,
}

impl Report {
    /// A line for whoever is watching.
    #[expect(clippy::unused_self, reason = "the report is where output goes")]
    pub(crate) fn say(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }

    pub(crate) fn add(
        &mut self,
        step: &'static str,
        claim: &'static str,
        took: Duration,
        outcome: Result<String, String>,
    ) {
        let word = if outcome.is_ok() { "held" } else { "BROKEN" };
        let figures = outcome.as_deref().unwrap_or_else(|error| error);
        self.say(&format!("{step}: {word} after {} s. {figures}", took.as_secs()));
        self.rows.push(Row { step, claim, took, outcome });
    }

    /// Prints everything once more, in short.
    pub(crate) fn table(&self) {
        for row in &self.rows {
            let word = if row.outcome.is_ok() { "held" } else { "BROKEN" };
            self.say(&format!(
                "{:<14}{word:<8}{:>6} s  {}",
                row.step,
                row.took.as_secs(),
                row.claim
            ));
        }
    }

    /// Writes it in Markdown.
    pub(crate) fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut text =
            String::from("| step | claim | held | seconds | measured |\n|---|---|---|---|---|\n");
        for Row { step, claim, took, outcome } in &self.rows {
            let (word, figures) = match outcome {
                Ok(figures) => ("yes", figures),
                Err(error) => ("**no**", error),
            };
            let figures = figures.replace('|', "\\|").replace('\n', "<br>");
            let _ =
                writeln!(text, "| {step} | {claim} | {word} | {} | {figures} |", took.as_secs());
        }
        fs::write(file, text)
    }
}
