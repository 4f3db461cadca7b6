//! `portolan token`: tokens signed with the key of the local development issuer.

use std::{process::ExitCode, time::Duration};

use portolan_auth::{Issuer, Role};
use portolan_kernel::{Clock as _, IdGen as _, RandomIds, SystemClock};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    cli::StateArg,
    local::{AUDIENCE, ISSUER, StateDir},
    out,
};

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
}

/// # Errors
/// The key cannot be read or made.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let signer = Signer::open(&StateDir::at(&args.state.state)?)?;
    let token = signer.sign(&args.user, args.role, Duration::from_secs(args.ttl_secs))?;
    out::line(token.expose_secret());
    Ok(ExitCode::SUCCESS)
}

/// Signs as the gateway's built-in issuer would.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    issuer: Issuer,
}

impl Signer {
    /// # Errors
    /// The key cannot be read or made.
    pub(crate) fn open(state: &StateDir) -> anyhow::Result<Self> {
        Ok(Self { issuer: Issuer::open(&state.issuer_key(), ISSUER, AUDIENCE)? })
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
        Ok(self.issuer.issue(user, &[role], SystemClock.now(), ttl, id)?)
    }
}
