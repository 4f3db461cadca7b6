//! `portolan token`: tokens signed with the key of the local development issuer.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use portolan_auth::{Issuer, KeyRing, Role, create_key_file};
use portolan_kernel::{Clock as _, IdGen as _, RandomIds, SystemClock};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;

use crate::{cli::StateArg, cluster::config::IssuerConfig, local::StateDir, out};

/// Whose token.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// The user id.
    #[arg(long)]
    user: String,
    /// What the user may be.
    #[arg(long, default_value = "customer")]
    role: Role,
    /// How long it is valid, in seconds.
    #[arg(long, default_value_t = 3600)]
    ttl_secs: u64,
    /// So many tokens, for the users that are called `<user>-1` and so on: a line of JSON for each.
    #[arg(long)]
    count: Option<u32>,
}

/// # Errors
/// The key cannot be read or made.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let signer = Signer::open(&StateDir::at(&args.state.state)?)?;
    let ttl = Duration::from_secs(args.ttl_secs);
    match args.count {
        None => out::line(signer.sign(&args.user, args.role, ttl)?.expose_secret()),
        Some(count) => {
            for line in signer.for_many(&args.user, args.role, count, ttl)? {
                out::line(&line);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Signs as the gateway's built-in issuer would. The key may be changed at any time: each token is
/// signed with what is in the file then.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    issuer: IssuerConfig,
}

impl Signer {
    /// The issuer of a local installation, whose key is made if it is missing.
    ///
    /// # Errors
    /// The key cannot be read or made.
    pub(crate) fn open(state: &StateDir) -> anyhow::Result<Self> {
        let issuer = state.issuer();
        create_key_file(&issuer.key_file)?;
        Self::of(&issuer)
    }

    /// An issuer that exists.
    ///
    /// # Errors
    /// There is no key in the file.
    pub(crate) fn of(issuer: &IssuerConfig) -> anyhow::Result<Self> {
        let signer = Self { issuer: issuer.clone() };
        signer.keys()?;
        Ok(signer)
    }

    fn keys(&self) -> anyhow::Result<Issuer> {
        let IssuerConfig { key_file, name, audience } = &self.issuer;
        let failed = || format!("no token can be signed with {}", key_file.display());
        let ring = KeyRing::parse(&std::fs::read(key_file).with_context(failed)?);
        let (_, keys) = watch::channel(Arc::new(ring.with_context(failed)?));
        Ok(Issuer::following(keys, name, audience))
    }

    /// Tokens for the users that are called `<name>-1` and so on: a line of JSON for each.
    ///
    /// # Errors
    /// A signature cannot be made.
    pub(crate) fn for_many(
        &self,
        name: &str,
        role: Role,
        count: u32,
        ttl: Duration,
    ) -> anyhow::Result<Vec<String>> {
        let line = |number| {
            let user = format!("{name}-{number}");
            let token = self.sign(&user, role, ttl)?;
            Ok(serde_json::json!({"user": user, "token": token.expose_secret()}).to_string())
        };
        (1..=count).map(line).collect()
    }

    /// # Errors
    /// The signature cannot be made.
    pub(crate) fn sign(
        &self,
        user: &str,
        role: Role,
        ttl: Duration,
    ) -> anyhow::Result<SecretString> {
        let id = RandomIds(SystemClock).next();
        Ok(self.keys()?.issue(user, &[role], SystemClock.now(), ttl, id)?)
    }
}
