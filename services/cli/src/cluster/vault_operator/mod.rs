//! `portolan vault-operator`: looks after the chart's own Vault, from beside it in its pod.
//!
//! It initialises an empty Vault once and keeps the key in a Secret, unseals after every start, and
//! hands over to `portolan vault-configure`: enables the login by service account, writes the one
//! role that may configure, and gives up the token that may do everything. Each step is safe to
//! repeat, and after a crash at any point the next run goes on from what Vault and the Secret say.
//!
//! Whoever can read the Secret can open Vault. This is for a laptop; a production Vault is unsealed
//! by a key management service.
//!
//! ```toml
//! address = "https://127.0.0.1:8200"
//! server_name = "vault.shop.svc"         # in its certificate, if that is not the address
//! ca = "/etc/portolan-ca/ca.crt"
//! secret = "vault-unseal"                # key; root, until Vault is handed over
//! namespace = "shop"
//! kubernetes_host = "https://kubernetes.default.svc"   # as Vault calls it
//! audit = true                           # every request, hashed, on Vault's standard output
//!
//! [configure]                            # to whom Vault is handed over
//! service_account = "vault-configure"
//! audience = "vault"
//! role = "configure"                     # and the name of its policy
//! prefix = "portolan-"                   # of the policies and roles that it may write
//!
//! [configure.mounts]                     # and the places
//! auth = "kubernetes"
//! pki = "pki"
//! database = "database"
//! kv = "kv"
//! ```

mod config;
mod hand_over;
mod policy;
mod unseal;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use portolan_runtime::one_line;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::Mutex,
    time::{sleep, timeout},
};

use self::config::Config;
use super::{
    kubernetes::Kubernetes,
    patience::Said,
    settings,
    vault::{Endpoint, Server},
};
use crate::out;

pub(super) use policy::{Mounts, configure_policy};

/// Between two looks at Vault.
const PAUSE: Duration = Duration::from_millis(500);
/// A trouble that stays is told again.
const AGAIN: Duration = Duration::from_mins(1);
/// How long a key that is not yet saved holds up the end.
const LAST_CHANCE: Duration = Duration::from_secs(10);

/// How to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

/// Runs until it is told to end.
///
/// # Errors
/// The configuration is wrong.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config: Config = settings::read(&args.config)?;
    // As the first process of a container: for it a signal has no default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let operator = Operator::new(&config)?;
    let told_to_end = async {
        select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        // At once, unless a key exists nowhere but here.
        let _ = timeout(LAST_CHANCE, operator.unsaved.lock()).await;
    };
    select! {
        () = operator.look_after() => {}
        () = told_to_end => {}
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug)]
struct Operator<'a> {
    config: &'a Config,
    kubernetes: Kubernetes,
    server: Server,
    /// Held while a key may exist that is not in the Secret.
    unsaved: Mutex<()>,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
struct Memory {
    said: Said,
    handed_over: bool,
}

impl<'a> Operator<'a> {
    fn new(config: &'a Config) -> anyhow::Result<Self> {
        let server = Server::new(Endpoint {
            address: &config.address,
            server_name: config.server_name.as_deref(),
            ca: Some(&config.ca),
            namespace: None,
        })?;
        let kubernetes = Kubernetes::new(&config.kubernetes, &config.namespace)?;
        Ok(Self { config, kubernetes, server, unsaved: Mutex::new(()) })
    }

    async fn look_after(&self) {
        let mut memory = Memory::default();
        loop {
            match self.look(&mut memory).await {
                Ok(Look::Changed) => memory.said.forget(),
                Ok(Look::Good) => {}
                Err(error) => {
                    let line = one_line(error.as_ref());
                    if memory.said.is_due(&line, AGAIN) {
                        out::error(&line);
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn look(&self, memory: &mut Memory) -> anyhow::Result<Look> {
        let health = self.server.health().await?;
        if !health.initialized {
            self.initialise().await?;
            memory.handed_over = false;
            return Ok(Look::Changed);
        }
        if health.sealed {
            self.unseal().await?;
            return Ok(Look::Changed);
        }
        if memory.handed_over || health.standby {
            return Ok(Look::Good);
        }
        self.hand_over().await?;
        memory.handed_over = true;
        Ok(Look::Changed)
    }
}

/// What a look at Vault came to.
#[derive(Clone, Copy, Debug)]
enum Look {
    Good,
    Changed,
}
