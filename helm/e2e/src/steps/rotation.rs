use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::audit;
use crate::{cluster::Cluster, load::Load, options::Options, pods};

const SERVICES: [&str; 5] = ["gateway", "order", "inventory", "payment", "notification"];
const WITH_DATABASE: [&str; 4] = ["order", "inventory", "payment", "notification"];
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Logins made since the beginning that may exist at once: of each of five services one, its
/// predecessor, and one more while a lease ends.
const MOST_LOGINS: usize = 15;

/// What was seen of each service.
#[derive(Debug, Default)]
struct Seen {
    /// When it began, by the database's clock, in seconds since 1970. Older logins are those of pods
    /// that were replaced before; they end with the lease of their pod's token.
    since: u64,
    certificates: BTreeMap<&'static str, BTreeSet<u64>>,
    logins: BTreeMap<&'static str, BTreeSet<String>>,
    most_logins: usize,
}

pub(super) async fn under_load(options: &Options, cluster: &Cluster) -> anyhow::Result<String> {
    cluster
        .upgrade(&[
            "tls.leafTtl=2m",
            "tls.maxConnectionAge=30",
            "secrets.database.defaultTtl=2m",
            "secrets.database.maxTtl=5m",
        ])
        .await?;
    // The agents keep what they were given: every pod begins anew with a short-lived one.
    cluster.kubectl(&["rollout", "restart", "deployment"]).await?;
    cluster.kubectl(&["rollout", "status", "deployment", "--timeout=5m"]).await?;
    let duration = Duration::from_mins(options.rotation_minutes);
    let load = Load::start(cluster, "load-rotation", options.rate, duration).await?;
    let now = cluster.psql("postgres", "SELECT extract(epoch FROM now())::bigint").await?;
    let since = now.trim().parse().context("the time")?;
    let mut seen = Seen { since, ..Seen::default() };
    while !load.left().is_zero() {
        seen.look(cluster).await?;
        tokio::time::sleep(LOOK_EVERY.min(load.left())).await;
    }
    let outcome = load.finish(cluster).await?;
    let restarts = pods::restarts(&cluster.standing().await?);
    ensure!(restarts.is_empty(), "containers were restarted: {restarts:?}");
    let failed = outcome.failed_requests();
    ensure!(failed.is_empty(), "requests failed while everything was rotated: {failed:?}");
    audit(cluster, "audit-rotation").await?;
    seen.judge()?;
    Ok(format!(
        "{outcome} in {} minutes; certificates seen {:?}, logins seen {:?}, at most {} logins at once",
        options.rotation_minutes,
        counts(&seen.certificates),
        counts(&seen.logins),
        seen.most_logins,
    ))
}

impl Seen {
    async fn look(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        for service in SERVICES {
            for pod in cluster.ready_pods(service).await? {
                let samples = cluster.metrics(pods::name(&pod)).await?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "seconds since 1970"
                )]
                let expiries = samples
                    .of("portolan_certificate_expiry_timestamp_seconds")
                    .map(|(_, value)| value as u64);
                self.certificates.entry(service).or_default().extend(expiries);
            }
        }
        for service in WITH_DATABASE {
            let sql = format!(
                "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'portolan_{service}' \
                 AND usename LIKE 'v-%'"
            );
            let names = cluster.psql("postgres", &sql).await?;
            self.logins.entry(service).or_default().extend(names.lines().map(str::to_owned));
        }
        // Vault ends a login's name with the time at which it made it.
        let sql = format!(
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%' \
             AND substring(rolname FROM '[0-9]+$')::bigint >= {}",
            self.since
        );
        let count = cluster.psql("postgres", &sql).await?;
        self.most_logins =
            self.most_logins.max(count.trim().parse().context("the number of logins")?);
        Ok(())
    }

    fn judge(&self) -> anyhow::Result<()> {
        for (service, certificates) in &self.certificates {
            let count = certificates.len();
            ensure!(count >= 4, "{service} had only {count} certificates");
        }
        for (service, logins) in &self.logins {
            let count = logins.len();
            ensure!(count >= 2, "{service} had only {count} database logins: {logins:?}");
        }
        let most = self.most_logins;
        ensure!(most <= MOST_LOGINS, "there were {most} database logins at once");
        Ok(())
    }
}

fn counts<T>(seen: &BTreeMap<&'static str, BTreeSet<T>>) -> BTreeMap<&'static str, usize> {
    seen.iter().map(|(service, all)| (*service, all.len())).collect()
}
