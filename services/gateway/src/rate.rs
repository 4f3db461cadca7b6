//! How often somebody may ask.
//!
//! What needs no token is counted by the client's address, what needs one by the token's subject,
//! and log-ins apart from everything else. A request is counted when it is known to be allowed: one
//! that is answered with 401 or 403 takes nothing from the subject that it names, so that nobody
//! can use up another's budget or look at it. What has no good token is a stranger's.
//!
//! Each process counts for itself ([`Rates`]); what all gateways together allow a subject is in
//! [`crate::quota`].

mod account;
mod bucket;
mod client;
mod config;
pub(crate) mod header;
mod metrics;

use std::{net::IpAddr, sync::Arc, time::Duration};

use portolan_kernel::IdGen;
use portolan_runtime::{Context, tls::TlsError};

pub(crate) use account::{Account, Class, meter};
pub(crate) use bucket::{Bucket, Policy, Verdict};
pub use config::{Rate, RatesConfig};
pub(crate) use metrics::describe as describe_metrics;

use crate::{
    config::Config,
    problem::{Problem, kind},
    quota::Quota,
};

/// How often those are forgotten who have their whole budget again.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Everybody's budgets.
#[derive(Debug)]
pub(crate) struct Rates {
    anonymous: Bucket<IpAddr>,
    token: Bucket<IpAddr>,
    read: Bucket<String>,
    write: Bucket<String>,
    quota: Option<Quota>,
    trusted_proxies: usize,
    ids: Arc<dyn IdGen>,
}

impl Rates {
    /// Starts counting, and connecting to the quota's server if there is one.
    ///
    /// # Errors
    /// A file of the configuration is missing or of no use.
    pub(crate) fn start(config: &Config, ctx: &Context) -> Result<Arc<Self>, TlsError> {
        let RatesConfig { trusted_proxies, anonymous, token, read, write } = config.rates;
        let quota = config.quota.as_ref().map(|quota| Quota::start(quota, ctx)).transpose()?;
        let rates = Arc::new(Self {
            anonymous: Bucket::new(Policy { name: "anonymous", rate: anonymous }),
            token: Bucket::new(Policy { name: "token", rate: token }),
            read: Bucket::new(Policy { name: "read", rate: read }),
            write: Bucket::new(Policy { name: "write", rate: write }),
            quota,
            trusted_proxies,
            ids: Arc::clone(&ctx.ids),
        });
        let (soft, swept) = (ctx.tasks.soft(), Arc::clone(&rates));
        ctx.tasks.spawn("rate limits", async move {
            soft.run_until_cancelled(swept.sweep()).await;
            Ok(())
        });
        Ok(rates)
    }

    async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.anonymous.sweep();
            self.token.sweep();
            self.read.sweep();
            self.write.sweep();
            if let Some(quota) = &self.quota {
                quota.sweep();
            }
        }
    }

    /// Counts a request that needs no token, or has no good one.
    pub(crate) fn visitor(&self, account: &Account) -> Result<(), Problem> {
        self.by_address(&self.anonymous, account)
    }

    /// Counts an attempt to log in.
    pub(crate) fn log_in(&self, account: &Account) -> Result<(), Problem> {
        self.by_address(&self.token, account)
    }

    /// Counts a request of a subject who may make it: first here, so that a flood does not reach
    /// the quota's server.
    pub(crate) async fn subject(&self, account: &Account, subject: &str) -> Result<(), Problem> {
        let bucket = match account.class() {
            Class::Read => &self.read,
            Class::Write => &self.write,
        };
        self.settle(account, bucket.policy(), bucket.take(&subject.to_owned()))?;
        let Some(quota) = &self.quota else { return Ok(()) };
        match quota.take(account.class(), subject).await {
            Some((policy, verdict)) => self.settle(account, policy, verdict),
            None => Ok(()),
        }
    }

    fn by_address(&self, bucket: &Bucket<IpAddr>, account: &Account) -> Result<(), Problem> {
        self.settle(account, bucket.policy(), bucket.take(&account.client()))
    }

    fn settle(&self, account: &Account, policy: Policy, verdict: Verdict) -> Result<(), Problem> {
        let [.., dice] = self.ids.next().into_bytes();
        let seconds = account.note(policy, verdict, dice);
        if let Verdict::Admitted { .. } = verdict {
            return Ok(());
        }
        metrics::refused(policy.name);
        let Rate { requests, per_secs } = policy.rate;
        let detail = format!(
            "The limit of {requests} requests in {per_secs} s ({}) is reached: come back in \
             {seconds} s.",
            policy.name
        );
        Err(Problem::new(kind::RATE_LIMITED, detail).with_retry_after(seconds))
    }
}
