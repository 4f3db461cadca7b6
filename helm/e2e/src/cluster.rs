use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{options::Options, report::Report};

/// No single call of kubectl or helm may take longer.
const LIMIT: Duration = Duration::from_mins(15);

/// The cluster of the current kubeconfig, as far as one release in one namespace goes.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub namespace: String,
    pub release: String,
    chart: String,
    helm: String,
    set: Vec<String>,
}

impl Cluster {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            namespace: options.namespace.clone(),
            release: options.release.clone(),
            chart: options.chart.display().to_string(),
            helm: options.helm.clone(),
            set: options.set.clone(),
        }
    }

    /// The name of a workload of the chart: the component's, unless the release is called otherwise
    /// than the chart.
    pub(crate) fn name(&self, component: &str) -> String {
        if self.release == "portolan" {
            component.to_owned()
        } else {
            format!("{}-{component}", self.release)
        }
    }

    /// Asks the database as its superuser, from inside its own pod; what psql prints, unaligned.
    ///
    /// # Errors
    /// As of [`Self::kubectl`].
    pub(crate) async fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let pod = format!("{}-0", self.name("postgres"));
        self.kubectl(&[
            "exec", &pod, "-c", "postgres", "--", "psql", "-U", "postgres", "-d", database, "-Atc",
            sql,
        ])
        .await
    }

    /// Runs kubectl in the namespace and returns what it prints.
    ///
    /// # Errors
    /// It cannot be run, takes too long or fails; with what it printed on standard error.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        run("kubectl", &all, None).await
    }

    /// Applies one manifest.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub(crate) async fn apply(&self, manifest: &Value) -> anyhow::Result<()> {
        let text = manifest.to_string();
        run("kubectl", &["-n", &self.namespace, "apply", "-f", "-"], Some(&text)).await?;
        Ok(())
    }

    /// `kubectl get … -o json`.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub(crate) async fn get(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = vec!["get"];
        all.extend(arguments);
        all.extend(["-o", "json"]);
        let text = self.kubectl(&all).await?;
        serde_json::from_str(&text).context("kubectl printed something else than JSON")
    }

    /// Every object of a kind that has the label.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub(crate) async fn list(&self, kind: &str, label: &str) -> anyhow::Result<Vec<Value>> {
        let mut arguments = vec![kind];
        if !label.is_empty() {
            arguments.extend(["-l", label]);
        }
        let list = self.get(&arguments).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Deletes something and waits until it is gone. Nothing there is no error.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub(crate) async fn delete(&self, what: &[&str]) -> anyhow::Result<()> {
        let mut all = vec!["delete", "--ignore-not-found", "--wait=true"];
        all.extend(what);
        self.kubectl(&all).await.map(drop)
    }

    /// `helm install --wait` with the options' values and these.
    ///
    /// # Errors
    /// Helm fails.
    pub(crate) async fn install(&self, set: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["install", &self.release, &self.chart, "--create-namespace"];
        arguments.extend(self.values(set));
        self.helm(&arguments).await.map(drop)
    }

    /// `helm upgrade --reuse-values --wait` with these values changed; its Jobs are waited for, too.
    ///
    /// # Errors
    /// Helm fails.
    pub(crate) async fn upgrade(&self, set: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["upgrade", &self.release, &self.chart, "--reuse-values"];
        arguments.push("--wait-for-jobs");
        arguments.extend(self.values(set));
        self.helm(&arguments).await.map(drop)
    }

    fn values<'a>(&'a self, set: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["--wait", "--timeout", "10m"];
        for pair in self.set.iter().map(String::as_str).chain(set.iter().copied()) {
            arguments.extend(["--set", pair]);
        }
        arguments
    }

    /// Runs helm in the namespace.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub(crate) async fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        run(&self.helm, &all, None).await
    }

    /// All values that the release was installed with, defaults included.
    ///
    /// # Errors
    /// Helm fails.
    pub(crate) async fn release_values(&self) -> anyhow::Result<Value> {
        let text = self.helm(&["get", "values", &self.release, "--all", "-o", "json"]).await?;
        serde_json::from_str(&text).context("helm printed something else than JSON")
    }

    /// Deletes the namespace with everything in it, and what the release left outside it.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub(crate) async fn clean(&self) -> anyhow::Result<()> {
        // The release first: its cluster-wide objects are not in the namespace.
        let _ = self.helm(&["uninstall", &self.release, "--wait", "--timeout", "3m"]).await;
        let namespace = self.namespace.clone();
        run(
            "kubectl",
            &["delete", "namespace", &namespace, "--ignore-not-found", "--wait=true"],
            None,
        )
        .await?;
        Ok(())
    }

    /// Prints what an operator would look at first.
    pub(crate) async fn describe_trouble(&self, report: &Report) {
        for arguments in [
            &["get", "pods", "-o", "wide"][..],
            &["get", "jobs"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            match self.kubectl(arguments).await {
                Ok(text) => report.say(&last_lines(&text, 60)),
                Err(error) => report.say(&format!("{error:#}")),
            }
        }
        let Ok(pods) = self.list("pods", "").await else { return };
        for pod in
            pods.iter().filter(|pod| !crate::pods::is_ready(pod) && !crate::pods::is_done(pod))
        {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let logs =
                self.kubectl(&["logs", name, "--all-containers", "--prefix", "--tail=30"]).await;
            report
                .say(&format!("--- {name}\n{}", logs.unwrap_or_else(|error| format!("{error:#}"))));
        }
        for restarted in crate::pods::restarts(&pods).keys() {
            self.describe_restart(report, restarted).await;
        }
    }

    /// How a container (`pod/container`) came to its end before it was started again.
    async fn describe_restart(&self, report: &Report, restarted: &str) {
        let Some((pod, container)) = restarted.split_once('/') else { return };
        let state = "jsonpath={.status.containerStatuses[*].lastState.terminated}";
        for arguments in [
            &["get", "pod", pod, "-o", state][..],
            &["logs", pod, "-c", container, "--previous", "--tail=40"],
        ] {
            let text = self.kubectl(arguments).await.unwrap_or_else(|error| format!("{error:#}"));
            report.say(&format!("--- {restarted}\n{text}"));
        }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).await?;
        drop(pipe);
    }
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("{shown} took longer than {} s", LIMIT.as_secs()))??;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
