//! Prints the description of the gateway's interface, as committed in `docs/openapi.json`:
//! `cargo run -p portolan-gateway --example openapi > docs/openapi.json`.

use std::io::Write as _;

fn main() -> anyhow::Result<()> {
    std::io::stdout().write_all(portolan_gateway::openapi::json()?.as_bytes())?;
    Ok(())
}
