//! Where a run goes, and who its customers are.

use anyhow::bail;
use portolan_runtime::TlsConfig;

use super::{Args, customers::Customers};
use crate::{
    cluster::config::Config,
    local::{LOAD, SEED, StateDir},
    mesh::Mesh,
    token::Signer,
    users,
};

/// A shop, as far as it is known.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) gateways: Vec<String>,
    pub(super) customers: Customers,
    /// Where stock can be raised, if it can.
    pub(super) inventory: Option<Peer>,
    /// Where payments are shown, if they are.
    pub(super) payment: Option<Peer>,
}

/// A service that we call, and as whom.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) mesh: Mesh,
    pub(super) url: String,
}

impl Target {
    /// The shop of `--config`, the gateway of `--gateway` alone, or the running local
    /// installation.
    ///
    /// # Errors
    /// There is none, or there is no way to be its customer.
    pub(super) async fn find(args: &Args) -> anyhow::Result<Self> {
        let state = StateDir::at(&args.state.state)?;
        let config = match &args.config {
            Some(file) => Config::read(file)?,
            // What other installations offer is their gateway alone.
            None if !args.gateway.is_empty() => Config::default(),
            None => state.tools(LOAD)?,
        };
        // Raising stock is not for everybody who places orders: here we can be another.
        let seed = match &args.config {
            None if args.gateway.is_empty() => state.tools(SEED)?,
            Some(_) | None => config.clone(),
        };
        let gateways =
            if args.gateway.is_empty() { config.services.gateway } else { args.gateway.clone() };
        let Some(first) = gateways.first() else {
            bail!("there is no gateway: name it with --gateway, or as services.gateway")
        };
        let customers = match (&args.users_dir, &config.issuer) {
            (Some(dir), _) => Customers::log_in(first, users::read(dir)?).await?,
            (None, Some(issuer)) => Customers::Signed(Signer::of(issuer)?),
            (None, None) if args.config.is_some() => {
                bail!("there is no customer: name --users-dir or issuer.key_file")
            }
            (None, None) => Customers::Signed(Signer::open(&state)?),
        };
        Ok(Self {
            gateways,
            customers,
            inventory: peer(seed.services.inventory, seed.tls.as_ref())?,
            payment: peer(config.services.payment, config.tls.as_ref())?,
        })
    }
}

fn peer(url: Option<String>, tls: Option<&TlsConfig>) -> anyhow::Result<Option<Peer>> {
    let Some(url) = url else { return Ok(None) };
    Ok(Some(Peer { mesh: Mesh::open(tls)?, url }))
}
