//! Generates the messages, clients and servers from the `.proto` files.

use std::{error::Error, path::PathBuf};

const PACKAGES: [&str; 6] = ["common", "order", "inventory", "payment", "notification", "events"];

/// Messages that carry a card token: their `Debug` is written by hand so that no log can show it.
const SECRET_BEARING: [&str; 3] = [
    ".portolan.order.v1.PlaceOrderRequest",
    ".portolan.events.v1.OrderPlaced",
    ".portolan.events.v1.InventoryReserved",
];

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<PathBuf> = PACKAGES
        .iter()
        .map(|name| PathBuf::from(format!("portolan/{name}/v1/{name}.proto")))
        .collect();
    tonic_prost_build::configure()
        .skip_debug(SECRET_BEARING)
        .compile_protos(&files, &[PathBuf::from(".")])?;
    println!("cargo::rerun-if-changed=portolan");
    Ok(())
}
