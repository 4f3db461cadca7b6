use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::{audit, seconds};
use crate::{cluster::Cluster, options::Options, pods};

/// What may stay behind, beside what Kubernetes itself puts into a namespace.
const KEPT: [&str; 2] = ["secrets", "persistentvolumeclaims"];
/// How long pods may take to end.
const TERMINATED: Duration = Duration::from_mins(2);
const GONE: [&str; 6] =
    ["pods", "services", "networkpolicies", "cronjobs", "deployments", "statefulsets"];

pub(super) async fn keeps_orders(_options: &Options, cluster: &Cluster) -> anyhow::Result<String> {
    let before = orders(cluster).await?;
    ensure!(before > 0, "there are no orders to keep");
    cluster.helm(&["uninstall", &cluster.release, "--wait", "--timeout", "5m"]).await?;
    let begun = Instant::now();
    // Helm waits for what it deletes, not for the pods that go with it.
    while let Some(left) = left(cluster).await? {
        ensure!(begun.elapsed() < TERMINATED, "uninstalling left {left}");
        tokio::time::sleep(pods::EVERY).await;
    }
    let mut kept = 0;
    for kind in KEPT {
        kept += cluster.list(kind, "").await?.len();
    }
    let begun = Instant::now();
    cluster.install(&[]).await?;
    let took = begun.elapsed();
    let after = orders(cluster).await?;
    ensure!(after == before, "of {before} orders {after} are there");
    audit(cluster, "audit-reinstall").await?;
    Ok(format!(
        "{kept} Secrets and claims kept; ready again after {}; {after} orders there, audit clean",
        seconds(took)
    ))
}

/// What should be gone and is not. Pods that have done their work stay with their Jobs, which the
/// notes name; those of the probes are our own.
async fn left(cluster: &Cluster) -> anyhow::Result<Option<String>> {
    for kind in GONE {
        let objects = cluster.list(kind, "").await?;
        let stays =
            |object: &&Value| !pods::is_done(object) && !pods::name(object).starts_with("probe");
        let names: Vec<_> = objects.iter().filter(stays).map(pods::name).collect();
        if !names.is_empty() {
            return Ok(Some(format!("{kind} {names:?}")));
        }
    }
    Ok(None)
}

async fn orders(cluster: &Cluster) -> anyhow::Result<u64> {
    let count = cluster.psql("portolan_order", "SELECT count(*) FROM orders").await?;
    count.trim().parse().context("the number of orders")
}
