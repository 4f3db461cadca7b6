//! Orders placed while something is being broken, by the chart's own load Job.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::{cluster::Cluster, pods};

/// Time for orders that are under way when the last was placed, and for the pod to start and end.
const MARGIN: Duration = Duration::from_mins(6);

/// The file has fewer; it begins again as long as there is time.
const EVERY_ORDER: &str = "1000000";

/// Why an order is asked for again without anything having failed.
const BUSY: &str = "user_busy";

/// A running load Job.
#[derive(Debug)]
pub(crate) struct Load {
    job: String,
    until: Instant,
}

/// What the Job prints at its end: the report of `portolan replay`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Outcome {
    pub orders: Orders,
    requests: Requests,
    pace: Pace,
}

/// What became of the orders.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Orders {
    pub accepted: u64,
    pub completed: u64,
    pub cancelled: u64,
    pub failed: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Requests {
    /// Answers that made the Job ask again, by reason.
    attempts_failed: BTreeMap<String, u64>,
    looks_failed: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Pace {
    accepted_ms: Percentiles,
    completed_ms: Percentiles,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Percentiles {
    p50: u64,
    p99: u64,
}

impl Outcome {
    /// Requests that were not answered as they should. That another order of the same customer is
    /// being placed is an answer.
    pub(crate) fn failed_requests(&self) -> BTreeMap<&str, u64> {
        let Requests { attempts_failed, looks_failed } = &self.requests;
        let all = attempts_failed.iter().chain(looks_failed);
        let mut failed = BTreeMap::new();
        for (why, count) in all.filter(|(why, _)| !why.contains(BUSY)) {
            *failed.entry(why.as_str()).or_default() += count;
        }
        failed
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Orders { accepted, completed, cancelled, .. }, pace) = (self.orders, self.pace);
        write!(
            f,
            "{accepted} orders accepted, {completed} completed, {cancelled} cancelled, requests \
             asked again {:?}; accepted p50 {} ms, p99 {} ms, completed p50 {} ms, p99 {} ms",
            self.failed_requests(),
            pace.accepted_ms.p50,
            pace.accepted_ms.p99,
            pace.completed_ms.p50,
            pace.completed_ms.p99,
        )
    }
}

impl Load {
    /// Starts placing orders and returns once the first are on their way.
    ///
    /// # Errors
    /// kubectl fails, or the Job's pod does not run.
    pub(crate) async fn start(
        cluster: &Cluster,
        job: &str,
        rate: u32,
        duration: Duration,
    ) -> anyhow::Result<Self> {
        cluster.delete(&["job", job]).await?;
        let arguments = [
            ("--rate", rate.to_string()),
            ("--duration", duration.as_secs().to_string()),
            ("--limit", EVERY_ORDER.to_owned()),
            ("--report", "-".to_owned()),
        ];
        let manifest = cluster.job_of("load", job, &arguments).await?;
        cluster.apply(&manifest).await?;
        let begun = Instant::now();
        loop {
            let pods = cluster.list("pods", &format!("job-name={job}")).await?;
            if pods.iter().any(|pod| pods::is_ready(pod) || pods::is_done(pod)) {
                break;
            }
            ensure!(begun.elapsed() < Duration::from_mins(2), "the load job {job} does not start");
            tokio::time::sleep(pods::EVERY).await;
        }
        Ok(Self { job: job.to_owned(), until: Instant::now() + duration })
    }

    /// How much longer it places orders.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Waits for its end. Every order that was accepted must have come to its end, and none may have
    /// been given up.
    ///
    /// # Errors
    /// It found something wrong, or kubectl fails.
    pub(crate) async fn finish(self, cluster: &Cluster) -> anyhow::Result<Outcome> {
        let good = cluster.ended("job", &self.job, self.left() + MARGIN).await?;
        let logs = cluster
            .kubectl(&["logs", &format!("job/{}", self.job), "-c", "load", "--tail=-1"])
            .await?;
        let outcome =
            outcome(&logs).with_context(|| format!("no report from {}:\n{logs}", self.job))?;
        ensure!(good, "the load job found something wrong:\n{logs}");
        ensure!(outcome.orders.accepted > 0, "the load job placed no order:\n{logs}");
        ensure!(outcome.orders.failed == 0, "orders were lost: {outcome:?}");
        Ok(outcome)
    }
}

/// The last JSON object of a log, which may fill several lines.
fn outcome(logs: &str) -> Option<Outcome> {
    let starts = logs
        .match_indices('{')
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || logs[..*at].ends_with('\n'));
    let mut values = starts.filter_map(|at| {
        serde_json::Deserializer::from_str(&logs[at..]).into_iter::<Value>().next()?.ok()
    });
    values.next_back().and_then(|value| serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_the_last_object_of_the_log() {
        let report = r#"{
  "orders": {"planned": 3, "accepted": 3, "completed": 2, "cancelled": 1, "failed": 0},
  "requests": {"attempts_failed": {"409 user_busy": 4, "503": 1}, "looks_failed": {"503": 2}},
  "pace": {"accepted_ms": {"p50": 1, "p99": 2}, "completed_ms": {"p50": 3, "p99": 4}}
}"#;
        let logs = format!("placing\n{{\"level\":\"info\"}}\n{report}\ndone\n");
        let outcome = outcome(&logs).unwrap();
        assert_eq!((outcome.orders.accepted, outcome.orders.completed), (3, 2));
        assert_eq!(outcome.failed_requests(), BTreeMap::from([("503", 3)]));
        assert!(super::outcome("nothing").is_none());
    }
}
