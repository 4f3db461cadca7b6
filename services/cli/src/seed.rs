//! `portolan seed`: the catalogue as stock.

use std::{fmt, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use portolan_proto::{
    common::v1::Money,
    inventory::v1::{
        ImportProductsRequest, ImportedProduct, inventory_service_client::InventoryServiceClient,
    },
};
use portolan_runtime::grpc;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::{
    catalogue::{CURRENCY, Catalogue, Product},
    cli::StateArg,
    cluster::config::Config,
    local::{SEED, StateDir},
    mesh::Mesh,
    out,
};

/// Pieces of every product: more than a whole year of the data set takes of any (80 995).
pub(crate) const DEFAULT_QUANTITY: i64 = 100_000;
/// What one call takes at most.
const CHUNK: usize = 1_000;
const CALL: Duration = Duration::from_secs(30);
/// Between two attempts to find inventory.
const PAUSE: Duration = Duration::from_secs(1);

/// What to load, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// The catalogue, with the columns sku, name and `unit_price_minor`; by default the one that
    /// comes with Portolan.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How many pieces of every product must be available afterwards, at least.
    #[arg(long, default_value_t = DEFAULT_QUANTITY)]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    quantity: i64,
    /// Where the shop is and how to be let in, instead of the running local installation.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long inventory may take to be there, in seconds.
    #[arg(long, default_value_t = 0)]
    wait_secs: u64,
    /// Inventory's gRPC address; by default that of the running local installation.
    #[arg(long)]
    inventory: Option<String>,
}

/// # Errors
/// The file cannot be read, or inventory does not take it.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let catalogue = Catalogue::read(args.file.as_deref())?;
    let config = match (&args.config, &args.inventory) {
        (Some(file), _) => Config::read(file)?,
        (None, Some(_)) => Config::default(),
        (None, None) => StateDir::at(&args.state.state)?.tools(SEED)?,
    };
    let inventory = args.inventory.as_ref().or(config.services.inventory.as_ref());
    let inventory = inventory.context("where is inventory? Name --inventory")?;
    let mesh = Mesh::open(config.tls.as_ref())?;
    let outcome = patiently(&mesh, inventory, &catalogue, args).await?;
    out::line(&outcome.to_string());
    Ok(ExitCode::SUCCESS)
}

/// Imports again and again for as long as inventory is not there and may still come: an import that
/// was done in part does no harm.
async fn patiently(
    mesh: &Mesh,
    inventory: &str,
    catalogue: &Catalogue,
    args: &Args,
) -> anyhow::Result<Outcome> {
    let deadline = Instant::now() + Duration::from_secs(args.wait_secs);
    loop {
        match import(mesh, inventory, catalogue, |_| args.quantity).await {
            Err(error) if Instant::now() < deadline && passes(&error) => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Whether inventory is merely not there, or not ready.
fn passes(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_some_and(|status| {
        matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
    })
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    products: usize,
    created: u32,
    restocked: u32,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { products, created, restocked } = self;
        write!(f, "{products} products: {created} new, {restocked} restocked")
    }
}

/// Adds the products of the catalogue, and raises their stock to at least `quantity` of each.
///
/// # Errors
/// Inventory cannot be reached or refuses.
pub(crate) async fn import(
    mesh: &Mesh,
    inventory: &str,
    catalogue: &Catalogue,
    quantity: impl Fn(&Product) -> i64,
) -> anyhow::Result<Outcome> {
    let mut client = InventoryServiceClient::new(mesh.channel(inventory, "inventory")?);
    let all: Vec<&Product> = catalogue.products.values().collect();
    let mut outcome = Outcome { products: all.len(), ..Outcome::default() };
    for chunk in all.chunks(CHUNK) {
        let products = chunk.iter().map(|product| imported(product, quantity(product))).collect();
        let request = grpc::deadline(ImportProductsRequest { products }, CALL);
        let response = client
            .import_products(request)
            .await
            .with_context(|| format!("inventory at {inventory} does not take the catalogue"))?
            .into_inner();
        outcome.created += response.created;
        outcome.restocked += response.restocked;
    }
    Ok(outcome)
}

fn imported(product: &Product, quantity: i64) -> ImportedProduct {
    ImportedProduct {
        sku: product.sku.clone(),
        name: product.name.clone(),
        price: Some(Money { minor_units: product.unit_price_minor, currency: CURRENCY.to_owned() }),
        quantity,
    }
}
