//! Installs the chart on the cluster of the current kubeconfig and tries to prove it wrong: calls
//! with the wrong identity, rotates everything under load, deletes every pod, upgrades, uninstalls.
//!
//! Each step is one claim. It prints what was measured, and on failure what the cluster looked like.

mod cluster;
mod load;
mod manifest;
mod metrics;
mod options;
mod pods;
mod report;
mod steps;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{cluster::Cluster, options::Options, report::Report};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let cluster = Cluster::new(&options);
    let mut report = Report::default();
    let outcome = steps::run(&options, &cluster, &mut report).await;
    if let Err(error) = &outcome {
        report.say(&format!("FAILED: {error:#}"));
        cluster.describe_trouble(&report).await;
    }
    report.table();
    if let Some(file) = &options.report
        && let Err(error) = report.write(file)
    {
        report.say(&format!("cannot write {}: {error}", file.display()));
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
