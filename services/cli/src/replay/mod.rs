//! `portolan replay`: real orders through the front door, and the outcome compared with the file.

mod client;
mod drive;
mod file;
mod payments;
mod progress;
mod report;
mod requests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::time::sleep;

use crate::{
    catalogue::Catalogue,
    cli::StateArg,
    local::{HostRecord, StateDir, random_bytes},
    out::{self, Screen},
    seed,
    token::Signer,
};

use client::Gateway;
use drive::{Driver, Plan};
use file::Orders;
use report::{Evidence, Report};

/// How long the stock may take to be what the final orders say.
const STOCK_SETTLES: Duration = Duration::from_secs(10);

/// What to replay, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// The orders: a `.csv` or `.csv.gz` file with the columns invoice, customer, sku, quantity and
    /// `unit_price_minor`.
    file: PathBuf,
    /// Orders a second. Time is compressed to this rate, and orders are sent on time whatever
    /// becomes of the earlier ones.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Only the first so many orders.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,
    /// The gateway, or several replicas of it in turn; by default those of the running local
    /// installation.
    #[arg(long)]
    gateway: Vec<String>,
    /// The catalogue that the shop was seeded with: its prices are expected.
    #[arg(long)]
    catalogue: Option<PathBuf>,
    /// Write what was asked for to this file, as `portolan audit --requests` reads it.
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// How long an order may take to be accepted, and then to be final, in seconds.
    #[arg(long, default_value_t = 180)]
    patience_secs: u64,
}

/// # Errors
/// The run cannot be made. That its outcome differs from the file is exit code 1.
pub(crate) async fn run(args: Args, screen: Screen) -> anyhow::Result<ExitCode> {
    ensure!(args.rate.is_finite() && args.rate > 0.0, "the rate must be positive");
    let catalogue = Catalogue::read(args.catalogue.as_deref())?;
    let file = Orders::read(&args.file, args.limit, &catalogue)?;
    let state = StateDir::at(&args.state.state)?;
    // What other installations offer is their gateway alone.
    let local = if args.gateway.is_empty() { Some(running(&state)?) } else { None };
    let gateways = local.as_ref().map_or(args.gateway.clone(), |local| local.gateways.clone());
    let gateway = Gateway::new(&gateways, Signer::open(&state)?)?;

    let before = stocked(&gateway, &file, &catalogue, local.as_ref()).await?;
    let plan = Plan {
        rate: args.rate,
        run: hex::encode(random_bytes::<4>()?),
        patience: Duration::from_secs(args.patience_secs),
    };
    out::line(&format!(
        "run {}: {} orders of {} at {} orders/s to {}",
        plan.run,
        file.placed.len(),
        args.file.display(),
        args.rate,
        gateways.join(", "),
    ));
    let driver = Driver::new(gateway.clone(), plan);
    let total = u64::try_from(file.placed.len())?;
    let outcomes = tokio::select! {
        outcomes = driver.run(file.placed.clone()) => outcomes?,
        () = progress::show(driver.clone(), total, screen) => bail!("the display ended"),
    };
    if let Some(file) = &args.requests {
        requests::write(file, &outcomes)?;
    }
    let captured = match &local {
        Some(local) => Some(payments::captured(&local.payment, &outcomes).await?),
        None => None,
    };
    let after = settled_stock(&gateway, &before, &file).await?;
    let report = Report::new(&Evidence {
        file: &file,
        outcomes: &outcomes,
        captured: captured.as_ref(),
        before: &before,
        after: &after,
        retries: &driver.retries(),
    });
    out::line(&report.render(screen));
    Ok(if report.exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn running(state: &StateDir) -> anyhow::Result<HostRecord> {
    state.running()?.context("nothing is running here: start it with `make up`, or name --gateway")
}

/// The stock before the run, raised where it would not suffice: earlier runs may have used it up.
async fn stocked(
    gateway: &Gateway,
    file: &Orders,
    catalogue: &Catalogue,
    local: Option<&HostRecord>,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let stock = gateway.stock().await?;
    let short: Vec<&String> = file
        .units
        .iter()
        .filter(|(sku, units)| stock.get(*sku).is_none_or(|available| available < *units))
        .map(|(sku, _)| sku)
        .collect();
    let Some(first) = short.first() else { return Ok(stock) };
    let Some(local) = local else {
        bail!(
            "the stock of {} products does not suffice, {first} for one: seed first",
            short.len()
        );
    };
    let mut needed = catalogue.clone();
    needed.products.retain(|sku, _| file.units.contains_key(sku));
    let quantity =
        |sku: &str| file.units.get(sku).copied().unwrap_or(0).max(seed::DEFAULT_QUANTITY);
    let outcome = seed::import(&local.inventory, &needed, |product| quantity(&product.sku)).await?;
    out::line(&format!("the stock of {} products did not suffice; {outcome}", short.len()));
    gateway.stock().await
}

/// The stock after the run, as soon as it is what is expected, or what it is then.
async fn settled_stock(
    gateway: &Gateway,
    before: &BTreeMap<String, i64>,
    file: &Orders,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let expected: BTreeMap<String, i64> = before
        .iter()
        .map(|(sku, stock)| (sku.clone(), stock - file.units.get(sku).copied().unwrap_or(0)))
        .collect();
    let start = Instant::now();
    loop {
        let stock = gateway.stock().await?;
        if stock == expected || start.elapsed() > STOCK_SETTLES {
            return Ok(stock);
        }
        sleep(Duration::from_millis(500)).await;
    }
}
