//! The inventory service's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    portolan_runtime::main::<portolan_inventory::Inventory>()
}
