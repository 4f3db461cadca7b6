use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};

use super::{audit, seconds};
use crate::{cluster::Cluster, load::Load, options::Options, pods};

/// Long enough for the roll-out of every service, migrations first.
const UNDER_LOAD: Duration = Duration::from_mins(3);

pub(super) async fn without_changes(cluster: &Cluster) -> anyhow::Result<String> {
    let before = uids(cluster).await?;
    cluster.upgrade(&[]).await?;
    let after = uids(cluster).await?;
    ensure!(before == after, "the upgrade changed {:?}", before.symmetric_difference(&after));
    Ok(format!("{} pods and Jobs are the same", after.len()))
}

/// Pods and Jobs except those of hooks, which run at every upgrade.
async fn uids(cluster: &Cluster) -> anyhow::Result<BTreeSet<String>> {
    let shown = |kind: &str, object: &serde_json::Value| {
        format!("{kind} {} {}", pods::name(object), pods::uid(object))
    };
    let mut uids: BTreeSet<String> =
        cluster.standing().await?.iter().map(|pod| shown("pod", pod)).collect();
    let jobs = cluster.list("jobs", "").await?;
    let plain = jobs.iter().filter(|job| job["metadata"]["annotations"]["helm.sh/hook"].is_null());
    uids.extend(plain.map(|job| shown("job", job)));
    Ok(uids)
}

pub(super) async fn under_load(options: &Options, cluster: &Cluster) -> anyhow::Result<String> {
    let load = Load::start(cluster, "load-upgrade", options.rate, UNDER_LOAD).await?;
    let columns = rehearsal_columns(cluster).await?;
    ensure!(columns == 0, "the next version's migration is there before the upgrade");
    let begun = tokio::time::Instant::now();
    let tag = format!("image.tag={}", options.next_tag);
    // Another value as well: every service gets a new configuration.
    cluster.upgrade(&[&tag, "services.order.config.orders.deadline_secs=600"]).await?;
    let took = begun.elapsed();
    let columns = rehearsal_columns(cluster).await?;
    ensure!(columns > 0, "the next version's migration was not applied");
    for pod in cluster.ready_pods("order").await? {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        ensure!(image.ends_with(&options.next_tag), "{} still runs {image}", pods::name(&pod));
    }
    let left = load.left();
    ensure!(!left.is_zero(), "the load ended before the upgrade, which took {}", seconds(took));
    let outcome = load.finish(cluster).await?;
    audit(cluster, "audit-upgrade").await?;
    Ok(format!("rolled out in {}; {outcome}; audit clean", seconds(took)))
}

/// How many columns of the order database exist only in the next version.
async fn rehearsal_columns(cluster: &Cluster) -> anyhow::Result<u32> {
    let sql = "SELECT count(*) FROM information_schema.columns \
               WHERE table_name = 'orders' AND column_name = 'delivery_note'";
    let count = cluster.psql("portolan_order", sql).await?;
    count.trim().parse().context("the number of columns")
}
