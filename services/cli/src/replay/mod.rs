//! `portolan replay`: real orders through the front door, and the outcome compared with the file.
//!
//! Every order is sent when the plan says, whatever becomes of the earlier ones, and repeated with
//! the same key until it is accepted: what a careful client does. So a shop under repair fails
//! first attempts, and still no order; the report (`--report`) counts both.
//!
//! The customers of the file are users of the shop. With the issuer's key (a local installation's,
//! or `[issuer]` of `--config`) each is one of their own; with `--users-dir` they share the users
//! that can log in, who place one order at a time each.

mod client;
mod customers;
mod drive;
mod file;
mod pace;
mod payments;
mod progress;
mod report;
mod requests;
mod summary;
mod tally;
mod target;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use tokio::time::sleep;

use crate::{
    catalogue::{Catalogue, Product},
    cli::StateArg,
    local::random_bytes,
    out::Screen,
    seed,
};

use client::Gateway;
use drive::{Driver, Outcome, Plan};
pub(crate) use file::{BUILT_IN, Orders};
use report::{Evidence, Report};
use summary::Summary;
use target::Target;

/// How long the stock may take to be what the final orders say.
const STOCK_SETTLES: Duration = Duration::from_secs(10);

/// What to replay, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// The orders: a `.csv` or `.csv.gz` file with the columns invoice, customer, sku, quantity and
    /// `unit_price_minor`; by default the week of a real shop that comes with Portolan.
    file: Option<PathBuf>,
    /// Orders a second. Time is compressed to this rate, and orders are sent on time whatever
    /// becomes of the earlier ones.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Only the first so many orders.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    #[arg(value_parser = at_least_one)]
    limit: usize,
    /// For so many seconds: the orders begin again when they run out, or stop early.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Where the shop is and how to be let in, instead of the running local installation.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The gateway, or several replicas of it in turn; by default those of the running local
    /// installation.
    #[arg(long)]
    gateway: Vec<String>,
    /// Log in as the users of this directory (files named like a user, holding the password).
    #[arg(long, value_name = "DIR")]
    users_dir: Option<PathBuf>,
    /// The catalogue that the shop was seeded with: its prices are expected.
    #[arg(long)]
    catalogue: Option<PathBuf>,
    /// Write what was asked for to this file, as `portolan audit --requests` reads it.
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// Write what was found to this file, as JSON; `-` is standard output, and everything else
    /// goes to standard error then.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long an order may take to be accepted, and then to be final, in seconds.
    #[arg(long, default_value_t = 180)]
    patience_secs: u64,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "at least 1".to_owned())
}

/// # Errors
/// The run cannot be made. That its outcome differs from the file is exit code 1.
pub(crate) async fn run(args: Args, screen: Screen) -> anyhow::Result<ExitCode> {
    ensure!(args.rate.is_finite() && args.rate > 0.0, "the rate must be positive");
    let aside = args.report.as_deref() == Some(Path::new("-"));
    let screen = if aside { Screen::aside() } else { screen };
    let catalogue = Catalogue::read(args.catalogue.as_deref())?;
    let mut file = orders(&args, &catalogue)?;
    let target = Target::find(&args).await?;
    target.customers.adopt(&mut file.placed);
    let gateway = Gateway::new(&target.gateways, target.customers.clone())?;

    let before = stocked(&gateway, &file, &catalogue, &target, screen).await?;
    let plan = Plan {
        rate: args.rate,
        run: hex::encode(random_bytes::<4>()?),
        patience: Duration::from_secs(args.patience_secs),
    };
    announce(&args, &plan, &file, &target, screen);
    let driver = Driver::new(gateway.clone(), plan.clone());
    let outcomes = placed(&driver, &file, screen).await?;
    if let Some(file) = &args.requests {
        requests::write(file, &outcomes)?;
    }
    let captured = payments::captured(target.payment.as_ref(), &outcomes).await?;
    let after = settled_stock(&gateway, &before, &file).await?;
    let counts = driver.counts();
    let report = Report::new(&Evidence {
        file: &file,
        outcomes: &outcomes,
        captured: captured.as_ref(),
        before: &before,
        after: &after,
        counts: &counts,
    });
    screen.line(&report.render(screen));
    if let Some(file) = &args.report {
        Summary::new((&plan.run, plan.rate), &outcomes, &counts, &report).write(file)?;
    }
    Ok(if report.exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The orders of the file, as many as are wanted.
fn orders(args: &Args, catalogue: &Catalogue) -> anyhow::Result<Orders> {
    let file = Orders::read(args.file.as_deref(), args.limit, catalogue)?;
    Ok(match args.duration {
        Some(seconds) => file.repeated(planned(args.rate, seconds)),
        None => file,
    })
}

/// How many orders `seconds` take, one at least.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of orders, from a positive rate"
)]
fn planned(rate: f64, seconds: u64) -> usize {
    (rate * seconds as f64).ceil().max(1.0) as usize
}

fn announce(args: &Args, plan: &Plan, file: &Orders, target: &Target, screen: Screen) {
    let name = args.file.as_ref().map(|file| file.display().to_string());
    screen.line(&format!(
        "run {}: {} orders of {} at {} orders/s to {}",
        plan.run,
        file.placed.len(),
        name.as_deref().unwrap_or("the week that comes with Portolan"),
        plan.rate,
        target.gateways.join(", "),
    ));
}

/// Places all orders and shows meanwhile how far it is.
async fn placed(
    driver: &Arc<Driver>,
    file: &Orders,
    screen: Screen,
) -> anyhow::Result<Vec<Outcome>> {
    let total = u64::try_from(file.placed.len())?;
    tokio::select! {
        outcomes = driver.run(file.placed.clone()) => outcomes,
        () = progress::show(Arc::clone(driver), total, screen) => bail!("the display ended"),
    }
}

/// The stock before the run, raised where it would not suffice: earlier runs may have used it up.
async fn stocked(
    gateway: &Gateway,
    file: &Orders,
    catalogue: &Catalogue,
    target: &Target,
    screen: Screen,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let stock = gateway.stock().await?;
    let short: Vec<&String> = file
        .units
        .iter()
        .filter(|(sku, units)| stock.get(*sku).is_none_or(|available| available < *units))
        .map(|(sku, _)| sku)
        .collect();
    let Some(first) = short.first() else { return Ok(stock) };
    let quantity =
        |sku: &str| file.units.get(sku).copied().unwrap_or(0).max(seed::DEFAULT_QUANTITY);
    let Some(inventory) = &target.inventory else {
        let most = short.iter().map(|sku| quantity(sku)).max().unwrap_or(0);
        bail!(
            "the stock of {} products does not suffice, {first} for one: seed first, with a \
             quantity of {most}",
            short.len()
        );
    };
    let mut needed = catalogue.clone();
    needed.products.retain(|sku, _| file.units.contains_key(sku));
    let wanted = |product: &Product| quantity(&product.sku);
    let outcome = seed::import(&inventory.mesh, &inventory.url, &needed, wanted).await?;
    screen.line(&format!("the stock of {} products did not suffice; {outcome}", short.len()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_as_many_orders_as_fit_its_rate() {
        assert_eq!(planned(50.0, 10), 500);
        assert_eq!(planned(0.3, 10), 3);
        assert_eq!(planned(0.01, 1), 1);
    }
}
