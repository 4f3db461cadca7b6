//! Generates the messages, clients and servers from the `.proto` files.

use std::{env, error::Error, path::PathBuf};

const PACKAGES: [&str; 7] =
    ["common", "order", "inventory", "payment", "notification", "events", "ops"];

/// Messages that carry a card token: their `Debug` is written by hand so that no log can show it.
const SECRET_BEARING: [&str; 3] = [
    ".portolan.order.v1.PlaceOrderRequest",
    ".portolan.events.v1.OrderPlaced",
    ".portolan.events.v1.InventoryReserved",
];

#[expect(clippy::disallowed_methods, reason = "Cargo says by it where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<PathBuf> = PACKAGES
        .iter()
        .map(|name| PathBuf::from(format!("portolan/{name}/v1/{name}.proto")))
        .collect();
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("portolan.bin");
    tonic_prost_build::configure()
        .skip_debug(SECRET_BEARING)
        .file_descriptor_set_path(descriptors)
        .compile_protos(&files, &[PathBuf::from(".")])?;
    println!("cargo::rerun-if-changed=portolan");
    Ok(())
}
