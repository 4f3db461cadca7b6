//! What all gateways together allow a subject: a budget in a Valkey or Redis server that they
//! share.
//!
//! It may be away. Then reads pass, because they harm nobody, and writes are counted by each
//! process for itself, with the same budget. No request waits longer for the server than its
//! timeout, and while the server answers nobody only a few a second wait at all. A server that
//! forgets gives everybody the whole budget again.

mod config;
mod metrics;
mod script;
#[cfg(test)]
mod tests;

use std::time::Duration;

use portolan_runtime::{Context, tls::TlsError};
use portolan_valkey::{Dialer, Instance, Outage, Purpose, Turn};

pub use config::QuotaConfig;
pub(crate) use metrics::describe as describe_metrics;

use crate::rate::{Bucket, Class, Policy, Verdict};

/// How long the server is left alone after it did not answer.
const REST: Duration = Duration::from_millis(500);

/// The shared budgets.
#[derive(Debug)]
pub(crate) struct Quota {
    server: Instance,
    outage: Outage,
    read: Policy,
    write: Policy,
    /// What counts writes while the server does not.
    spare: Bucket<String>,
}

impl Quota {
    /// Starts connecting. Nobody waits for that.
    ///
    /// # Errors
    /// A file of the configuration is missing or of no use.
    pub(crate) fn start(config: &QuotaConfig, ctx: &Context) -> Result<Self, TlsError> {
        let purpose = Purpose {
            name: "quota server",
            timeout: config.timeout(),
            scripts: script::ALL,
            report: metrics::server,
        };
        let roots = config.tls_roots.as_deref().map(|path| ("quota.tls_roots", path));
        let identity = config.tls_identity.as_deref().map(|path| ("quota.tls_identity", path));
        let dialer = Dialer::load(purpose, roots, identity, &ctx.tasks)?;
        let write = Policy { name: "write-quota", rate: config.write };
        Ok(Self {
            server: Instance::start(0, config.server.clone(), dialer, &ctx.tasks),
            outage: Outage::default(),
            read: Policy { name: "read-quota", rate: config.read },
            write,
            spare: Bucket::new(write),
        })
    }

    /// Takes one from the subject's budget, and says which that is; nothing if it cannot be asked
    /// and need not be.
    pub(crate) async fn take(&self, class: Class, subject: &str) -> Option<(Policy, Verdict)> {
        let (name, policy) = match class {
            Class::Read => ("read", self.read),
            Class::Write => ("write", self.write),
        };
        if let Some(verdict) = self.ask(name, policy, subject).await {
            return Some((policy, verdict));
        }
        metrics::not_asked(name);
        match class {
            Class::Read => None,
            Class::Write => Some((policy, self.spare.take(&subject.to_owned()))),
        }
    }

    /// Forgets who has the whole spare budget.
    pub(crate) fn sweep(&self) {
        self.spare.sweep();
    }

    async fn ask(&self, name: &str, policy: Policy, subject: &str) -> Option<Verdict> {
        if self.outage.is_fresh(REST) {
            return None;
        }
        let key = format!("portolan:quota:{name}:{subject}");
        let verdict = self.server.ask(|on| script::take(on, key, policy.rate)).await;
        match self.outage.note(verdict.is_none()) {
            Some(Turn::Begun) => tracing::warn!(
                "the quota's server does not answer: reads pass, writes are counted here"
            ),
            Some(Turn::Over) => tracing::info!("the quota's server answers again"),
            None => {}
        }
        verdict
    }
}
