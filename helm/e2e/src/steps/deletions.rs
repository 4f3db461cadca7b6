use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;

use super::{audit, seconds};
use crate::{cluster::Cluster, load::Load, options::Options, pods};

/// What one pod's replacement takes at most, as a rule: the load must last for all of them.
const EACH: Duration = Duration::from_secs(14);

pub(super) async fn lose_nothing(options: &Options, cluster: &Cluster) -> anyhow::Result<String> {
    let mut victims = cluster.standing().await?;
    if options.quick {
        let mut seen = BTreeSet::new();
        victims.retain(|pod| seen.insert(pods::component(pod).to_owned()));
    }
    let count = u32::try_from(victims.len()).context("so many pods")?;
    let load = Load::start(cluster, "load-deletions", options.rate, EACH * count).await?;
    let mut times = Vec::new();
    for pod in &victims {
        let took = cluster.replace(pod).await?;
        times.push(format!("{} {}", pods::name(pod), seconds(took)));
    }
    let outcome = load.finish(cluster).await?;
    audit(cluster, "audit-deletions").await?;
    Ok(format!("{outcome}; audit clean; ready again after: {}", times.join(", ")))
}
