use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};

use super::{audit, rotation::psql, seconds};
use crate::{cluster::Cluster, options::Options, pods};

/// What may stay behind, beside what Kubernetes itself puts into a namespace.
const KEPT: [&str; 2] = ["secrets", "persistentvolumeclaims"];
const GONE: [&str; 6] =
    ["pods", "services", "networkpolicies", "cronjobs", "deployments", "statefulsets"];

pub(super) async fn keeps_orders(_options: &Options, cluster: &Cluster) -> anyhow::Result<String> {
    let before = orders(cluster).await?;
    ensure!(before > 0, "there are no orders to keep");
    cluster.helm(&["uninstall", &cluster.release, "--wait", "--timeout", "5m"]).await?;
    let probes = BTreeSet::from(["probes-in", "probes-out"]);
    for kind in GONE {
        let left = cluster.list(kind, "").await?;
        let left: Vec<&str> =
            left.iter().map(pods::name).filter(|name| !probes.contains(name)).collect();
        ensure!(left.is_empty(), "uninstalling left {kind}: {left:?}");
    }
    let mut kept = 0;
    for kind in KEPT {
        kept += cluster.list(kind, "").await?.len();
    }
    let begun = tokio::time::Instant::now();
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

async fn orders(cluster: &Cluster) -> anyhow::Result<u64> {
    let count = psql(cluster, "portolan_order", "SELECT count(*) FROM orders").await?;
    count.trim().parse().context("the number of orders")
}
