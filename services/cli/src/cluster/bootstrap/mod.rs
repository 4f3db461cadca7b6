//! `portolan bootstrap`: the secrets that everything else begins with.
//!
//! It runs before every installation and upgrade and makes only what is missing: the root of trust,
//! the certificates of the infrastructure, random passwords, an empty Secret for Vault's key. What
//! exists is left alone, with two exceptions that lose nothing: a certificate that ends soon, or
//! that no longer says what it should, is replaced, and trust in the root is added where it is
//! missing. Two runs at once end with one result.
//!
//! ```toml
//! namespace = "shop"
//! trust_domain = "portolan.local"
//! pod_security = "restricted"            # of the namespace, by its labels; "" leaves them alone
//! root_secret = "root-ca"                # tls.crt, tls.key; may be made by hand before
//! ca_config_map = "ca"                   # ca.crt
//! wait_secs = 60                         # for each step
//!
//! [labels]                               # on everything that is made
//! "app.kubernetes.io/part-of" = "portolan"
//!
//! [[certificate]]                        # tls.crt, tls.key (PKCS#8), ca.crt, bundle.pem (key, certificate)
//! secret = "kafka-tls"
//! component = "kafka"                    # in messages
//! name = "kafka"                         # common name and service account
//! dns = ["kafka", "kafka.shop.svc", "localhost"]
//! ips = ["127.0.0.1"]
//! days = 90
//!
//! [[secret]]                             # random values
//! name = "postgres-bootstrap"
//! keys = ["superuser", "vault_admin"]
//!
//! [[empty_secret]]                       # for somebody who may change it, but not make it
//! name = "vault-unseal"
//!
//! [demo_users]                           # random passwords
//! secret = "demo-users"
//! users = ["alice", "bob", "olga"]
//!
//! [kubernetes]                           # if not as in every pod
//! address = "https://kubernetes.default.svc"
//! ca = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
//! token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
//! ```

mod certificates;
mod config;
mod namespace;
mod root;
mod secrets;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use portolan_kernel::{Clock as _, SystemClock};

use self::config::Config;
use super::{
    kubernetes::{Change, Changes, Kind, Kubernetes, Object},
    patience::Patience,
    settings,
};
use crate::out;

/// How to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

/// # Errors
/// Something is missing and cannot be made.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config: Config = settings::read(&args.config)?;
    let kubernetes = Kubernetes::new(&config.kubernetes, &config.namespace)?;
    let bootstrap = Bootstrap { config: &config, kubernetes: &kubernetes };
    bootstrap.all().await?;
    Ok(ExitCode::SUCCESS)
}

/// What every step needs.
#[derive(Clone, Copy, Debug)]
struct Bootstrap<'a> {
    config: &'a Config,
    kubernetes: &'a Kubernetes,
}

impl Bootstrap<'_> {
    async fn all(self) -> anyhow::Result<()> {
        // The role of our service account was made a moment ago and may not be known everywhere.
        let patience = Patience { limit: Duration::from_secs(self.config.wait_secs) };
        patience.until_done("the namespace's labels", async || self.namespace().await).await?;
        let root = patience.until_done("the root of trust", async || self.root().await).await?;
        for wanted in &self.config.certificate {
            let what = format!("the certificate of {}", wanted.component);
            let now = SystemClock.now();
            patience.until_done(&what, async || self.certificate(&root, wanted, now).await).await?;
        }
        patience.until_done("the secrets", async || self.secrets().await).await
    }

    /// Makes an object and says so; `false` if somebody else was faster.
    async fn make(self, object: &Object<'_>) -> anyhow::Result<bool> {
        let made = self.kubernetes.create(object).await?;
        if made {
            out::line(&format!("made {} {}", object.kind.word(), object.name));
        }
        Ok(made)
    }
}
