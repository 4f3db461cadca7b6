//! The claims, each with what shows it.

mod callers;
mod deletions;
mod install;
mod reinstall;
mod rotation;
mod secrets;
mod upgrade;

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::{cluster::Cluster, options::Options, report::Report};

type Done<'a> = Pin<Box<dyn Future<Output = anyhow::Result<String>> + 'a>>;

/// One claim about the chart.
struct Step {
    name: &'static str,
    claim: &'static str,
    /// Whether it belongs to the quick run.
    quick: bool,
    run: for<'a> fn(&'a Options, &'a Cluster) -> Done<'a>,
}

const STEPS: [Step; 11] = [
    Step {
        name: "install",
        claim: "an empty namespace becomes a ready shop by one helm install, and no container restarts",
        quick: true,
        run: |options, cluster| Box::pin(install::from_nothing(options, cluster)),
    },
    Step {
        name: "helm-test",
        claim: "helm test places an order, follows it to COMPLETED, replays its key and finds its one trace",
        quick: true,
        run: |_, cluster| Box::pin(install::helm_test(cluster)),
    },
    Step {
        name: "idle-upgrade",
        claim: "an upgrade that changes nothing replaces no pod and runs no Job again",
        quick: true,
        run: |_, cluster| Box::pin(upgrade::without_changes(cluster)),
    },
    Step {
        name: "secrets",
        claim: "no Secret holds a password that a service uses",
        quick: true,
        run: |_, cluster| Box::pin(secrets::hold_no_service_password(cluster)),
    },
    Step {
        name: "callers",
        claim: "a valid certificate of another service, and none at all, is refused by every service, and counted",
        quick: true,
        run: |options, cluster| Box::pin(callers::are_refused(options, cluster)),
    },
    Step {
        name: "egress",
        claim: "a service's pod reaches no address that the chart did not open",
        quick: true,
        run: |_, cluster| Box::pin(callers::cannot_leave(cluster)),
    },
    Step {
        name: "memory",
        claim: "every container stays under 70 % of its memory limit",
        quick: true,
        run: |_, cluster| Box::pin(install::memory(cluster)),
    },
    Step {
        name: "deletions",
        claim: "pods are deleted one after another under load, and nothing is lost",
        quick: true,
        run: |options, cluster| Box::pin(deletions::lose_nothing(options, cluster)),
    },
    Step {
        name: "upgrade",
        claim: "the next version with one more migration is rolled out under load, and no order fails",
        quick: true,
        run: |options, cluster| Box::pin(upgrade::under_load(options, cluster)),
    },
    Step {
        name: "rotation",
        claim: "certificates and database logins are replaced again and again under load, and no request fails",
        quick: false,
        run: |options, cluster| Box::pin(rotation::under_load(options, cluster)),
    },
    Step {
        name: "reinstall",
        claim: "uninstalling leaves what the notes say, and installing again finds every order",
        quick: false,
        run: |options, cluster| Box::pin(reinstall::keeps_orders(options, cluster)),
    },
];

/// Runs the wanted steps in order and stops at the first claim that does not hold.
///
/// # Errors
/// That claim, and why.
pub(crate) async fn run(
    options: &Options,
    cluster: &Cluster,
    report: &mut Report,
) -> anyhow::Result<()> {
    for name in &options.only {
        ensure!(STEPS.iter().any(|step| step.name == name), "there is no step {name}");
    }
    for step in STEPS.iter().filter(|step| options.wants(step.name, step.quick)) {
        report.say(&format!("{}: {}", step.name, step.claim));
        let begun = Instant::now();
        let outcome = (step.run)(options, cluster).await;
        let shown = match &outcome {
            Ok(figures) => Ok(figures.clone()),
            Err(error) => Err(format!("{error:#}")),
        };
        report.add(step.name, step.claim, begun.elapsed(), shown);
        outcome.context(step.name)?;
    }
    if !options.keep && options.only.is_empty() {
        cluster.clean().await?;
    }
    Ok(())
}

/// Runs the chart's auditor to its end.
///
/// # Errors
/// It found a violation; with what it printed.
pub(crate) async fn audit(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    cluster.delete(&["job", name]).await?;
    let job = cluster.job_of("audit", name, &[]).await?;
    cluster.apply(&job).await?;
    let clean = cluster.ended("job", name, Duration::from_mins(5)).await?;
    let logs =
        cluster.kubectl(&["logs", &format!("job/{name}"), "-c", "audit", "--tail=-1"]).await?;
    ensure!(clean, "the auditor found a violation:\n{logs}");
    ensure!(logs.contains("I1"), "the auditor checked nothing:\n{logs}");
    Ok(())
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
