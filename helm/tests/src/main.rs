//! `portolan-chart`: writes what is generated from the chart, and what its tests compare with.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use portolan_chart_tests::{goldens, readme, root, schemas};

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let result = match argument.as_deref() {
        Some("readme") => readme::write(),
        Some("goldens") => goldens::write(),
        Some("schemas") => write_schemas(),
        _ => {
            complain("usage: portolan-chart readme|goldens|schemas");
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("portolan-chart: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// From the API description on standard input.
fn write_schemas() -> Result<()> {
    let mut openapi = String::new();
    std::io::stdin().read_to_string(&mut openapi)?;
    schemas::write(&openapi, &root().join("helm/schemas"))
}

fn complain(line: &str) {
    let _closed = writeln!(std::io::stderr(), "{line}");
}
