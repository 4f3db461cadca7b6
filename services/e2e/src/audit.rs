use std::{
    collections::BTreeMap,
    process::{Output, Stdio},
    sync::PoisonError,
};

use portolan_testkit::PATIENCE;
use serde::Deserialize;
use tokio::{process::Command, time::timeout};

use crate::{Service, Shop, program};

/// One invariant in the auditor's report.
#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    checked: u64,
    violations: u64,
    first: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Report {
    verdict: String,
    findings: Vec<Finding>,
    unfinished: Vec<String>,
}

/// What `portolan audit` said.
#[derive(Debug)]
pub struct Audit {
    /// Its exit code.
    pub code: Option<i32>,
    /// `clean`, `violated` or `not_at_rest`; empty if it could not look.
    pub verdict: String,
    /// Every invariant with the offenders that were named; none where it holds.
    pub findings: BTreeMap<String, Vec<String>>,
    /// How many rows each invariant was held against.
    pub checked: BTreeMap<String, u64>,
    /// What was not at rest.
    pub unfinished: Vec<String>,
    /// Standard error.
    pub errors: String,
}

impl Audit {
    /// The numbers of the violated invariants, in order.
    pub fn violated(&self) -> Vec<&str> {
        let violated = self.findings.iter().filter(|(_, offenders)| !offenders.is_empty());
        violated.map(|(id, _)| id.as_str()).collect()
    }
}

/// Runs a command to its end.
///
/// It cannot be run, or does not end.
pub async fn finished(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    timeout(PATIENCE * 2, output).await.expect("the command ends").expect("the command runs")
}

/// Runs `portolan audit --json` with these further arguments.
pub async fn audit(arguments: &[String]) -> Audit {
    let output =
        finished(Command::new(program("portolan")).args(["audit", "--json"]).args(arguments)).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Option<Report> = serde_json::from_slice(&output.stdout).ok();
    let report = report.unwrap_or(Report {
        verdict: String::new(),
        findings: Vec::new(),
        unfinished: Vec::new(),
    });
    let checked = report.findings.iter().map(|found| (found.id.clone(), found.checked)).collect();
    let findings = report.findings.into_iter().map(|found| {
        assert_eq!(found.violations == 0, found.first.is_empty(), "{} names nobody", found.id);
        (found.id, found.first)
    });
    Audit {
        code: output.status.code(),
        verdict: report.verdict,
        findings: findings.collect(),
        checked,
        unfinished: report.unfinished,
        errors,
    }
}

impl Shop {
    /// The flags that lead the auditor to this shop.
    pub fn audit_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--brokers".to_owned(),
            self.brokers.clone(),
            "--topic-prefix".to_owned(),
            self.topic_prefix.clone(),
        ];
        for (service, database) in &self.databases {
            arguments.push(format!("--{}-url", service.name()));
            arguments.push(database.url().to_owned());
        }
        arguments
    }

    /// Audits the shop with everything its customers asked for.
    pub async fn audit(&self, more: &[&str]) -> Audit {
        let requests: String = {
            let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let line = |attempt| serde_json::to_string(attempt).expect("an attempt") + "\n";
            attempts.iter().map(line).collect()
        };
        let requests = self.scratch.write("requests.jsonl", &requests);
        let mut arguments = self.audit_arguments();
        arguments.extend(["--requests".to_owned(), requests.display().to_string()]);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        audit(&arguments).await
    }

    /// Waits for rest and fails unless every invariant holds, over rows that are there.
    pub async fn assert_sound(&self) {
        let found = self.audit(&["--settle-secs", "40"]).await;
        assert_eq!((found.code, found.verdict.as_str()), (Some(0), "clean"), "{found:#?}");
        assert_eq!(found.findings.len(), 19, "{found:#?}");
        let orders = self.count(Service::Order, "SELECT count(*) FROM orders").await;
        let held = found.checked.get("Q2").copied().map(u64::cast_signed);
        assert_eq!(held, Some(orders), "the auditor saw every order");
    }
}
