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

use crate::{
    catalogue::{CURRENCY, Catalogue, Product},
    cli::StateArg,
    local::StateDir,
    out,
};

/// Pieces of every product: more than a whole year of the data set takes of any (80 995).
pub(crate) const DEFAULT_QUANTITY: i64 = 100_000;
/// What one call takes at most.
const CHUNK: usize = 1_000;
const CALL: Duration = Duration::from_secs(30);

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
    /// Inventory's gRPC address; by default that of the running local installation.
    #[arg(long)]
    inventory: Option<String>,
}

/// # Errors
/// The file cannot be read, or inventory does not take it.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let catalogue = Catalogue::read(args.file.as_deref())?;
    let inventory = if let Some(url) = &args.inventory {
        url.clone()
    } else {
        let running = StateDir::at(&args.state.state)?.running()?;
        running
            .context("nothing is running here: start it with `make up`, or name --inventory")?
            .inventory
    };
    let outcome = import(&inventory, &catalogue, |_| args.quantity).await?;
    out::line(&outcome.to_string());
    Ok(ExitCode::SUCCESS)
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
    inventory: &str,
    catalogue: &Catalogue,
    quantity: impl Fn(&Product) -> i64,
) -> anyhow::Result<Outcome> {
    let mut client = InventoryServiceClient::new(grpc::channel(inventory)?);
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
