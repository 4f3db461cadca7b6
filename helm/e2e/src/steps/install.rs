use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::seconds;
use crate::{cluster::Cluster, options::Options, pods};

/// What a container may use of its memory limit when all is well.
const SHARE: f64 = 0.7;

pub(super) async fn from_nothing(_options: &Options, cluster: &Cluster) -> anyhow::Result<String> {
    cluster.clean().await?;
    let begun = Instant::now();
    cluster.install(&[]).await?;
    let took = begun.elapsed();
    let standing = cluster.standing().await?;
    ensure!(!standing.is_empty(), "nothing was installed");
    for pod in &standing {
        ensure!(pods::is_ready(pod), "{} is not ready after helm --wait", pods::name(pod));
    }
    let restarts = pods::restarts(&cluster.list("pods", "").await?);
    ensure!(restarts.is_empty(), "containers were restarted: {restarts:?}");
    let namespace = cluster.get(&["namespace", &cluster.namespace]).await?;
    let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    ensure!(
        level == "restricted",
        "the namespace does not enforce restricted Pod Security: {level}"
    );
    Ok(format!("{} pods ready after {}, no restarts", standing.len(), seconds(took)))
}

pub(super) async fn helm_test(cluster: &Cluster) -> anyhow::Result<String> {
    let begun = Instant::now();
    let arguments = ["test", &cluster.release, "--timeout", "4m"];
    let tested = cluster.helm(&arguments).await;
    if tested.is_err() {
        let logs =
            cluster.kubectl(&["logs", &format!("job/{}", cluster.name("test")), "--tail=50"]).await;
        tested.with_context(|| logs.unwrap_or_default())?;
    }
    Ok(format!("passed in {}", seconds(begun.elapsed())))
}

/// The memory of every container, from the metrics server, against its limit.
pub(super) async fn memory(cluster: &Cluster) -> anyhow::Result<String> {
    let used = usage(cluster).await?;
    let mut lines = Vec::new();
    for pod in cluster.standing().await? {
        for container in containers(&pod) {
            let name = container["name"].as_str().unwrap_or_default();
            let Some(used) = used.get(&(pods::name(&pod).to_owned(), name.to_owned())) else {
                continue;
            };
            let limit = container["resources"]["limits"]["memory"].as_str().and_then(mebibytes);
            let limit =
                limit.with_context(|| format!("{} has no memory limit", pods::name(&pod)))?;
            ensure!(
                *used <= SHARE * limit,
                "{}/{name} uses {used} MiB of {limit} MiB",
                pods::name(&pod)
            );
            lines.push(format!("{}/{name} {used:.0} of {limit:.0} MiB", pods::component(&pod)));
        }
    }
    ensure!(!lines.is_empty(), "the metrics server knows no container");
    lines.sort();
    Ok(lines.join("\n"))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let list = |name: &str| pod["spec"][name].as_array().into_iter().flatten();
    list("containers").chain(list("initContainers"))
}

/// (pod, container) -> MiB. The metrics server needs a moment with new pods.
async fn usage(cluster: &Cluster) -> anyhow::Result<BTreeMap<(String, String), f64>> {
    let begun = Instant::now();
    loop {
        let standing = cluster.standing().await?;
        let top = cluster.kubectl(&["top", "pods", "--containers", "--no-headers"]).await;
        let used = top.as_deref().map(parse_top).unwrap_or_default();
        let known = |pod: &Value| used.keys().any(|(name, _)| name == pods::name(pod));
        if standing.iter().all(known) {
            return Ok(used);
        }
        if begun.elapsed() > Duration::from_mins(2) {
            top.context("kubectl top needs a metrics server")?;
            anyhow::bail!("the metrics server does not know every pod");
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

fn parse_top(text: &str) -> BTreeMap<(String, String), f64> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (pod, container, _cpu, memory) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        Some(((pod.to_owned(), container.to_owned()), mebibytes(memory)?))
    };
    text.lines().filter_map(row).collect()
}

/// Kubernetes quantities of memory, as far as they occur here.
fn mebibytes(quantity: &str) -> Option<f64> {
    let units = [("Ki", 1.0 / 1024.0), ("Mi", 1.0), ("Gi", 1024.0)];
    let (text, factor) =
        units.iter().find_map(|(unit, factor)| Some((quantity.strip_suffix(unit)?, factor)))?;
    Some(text.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_memory_are_read_in_mebibytes() {
        assert_eq!(mebibytes("512Ki"), Some(0.5));
        assert_eq!(mebibytes("96Mi"), Some(96.0));
        assert_eq!(mebibytes("1Gi"), Some(1024.0));
        assert_eq!(mebibytes("lots"), None);
    }
}
