//! The `portolan` command: runs the shop on one machine (`up`, `status`, `down`), loads the
//! catalogue (`seed`), places real orders and compares the outcome with the file (`replay`), signs
//! tokens (`token`), has what k6 needs (`k6`), looks after dead letters (`dlq`), hurts a shop of
//! its own and sees whether it holds (`faults`), and checks the invariants over all databases
//! (`audit`).
//!
//! What a command of the local shop leaves behind is in one state directory (`--state`, by default
//! `.portolan`). In a cluster nothing is left behind: there a configuration file (`--config`) says
//! where the shop is, and `cluster` has what the chart runs besides the services.

pub mod audit;
mod catalogue;
mod cli;
mod cluster;
mod dlq;
mod faults;
mod gateway;
mod k6;
mod local;
mod mesh;
mod out;
pub mod pki;
mod replay;
mod seed;
mod token;
mod users;

use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};

/// Process entry: parses the command line and runs the command. Whatever fails ends in one line on
/// standard error and exit code 1.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    portolan_runtime::install_crypto();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let ended = runtime.block_on(run(cli));
    // A blocked thread must not keep the process alive.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| fail(&error))
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let screen = out::Screen::new(cli.no_color.as_deref());
    match cli.command {
        Command::Up(args) => local::up(*args, screen).await,
        Command::Down(args) => local::down(&args.state, screen).await,
        Command::Status(args) => local::status(&args.state, screen),
        Command::Token(args) => token::run(&args),
        Command::K6(args) => k6::run(&args),
        Command::VaultOperator(args) => cluster::vault_operator::run(&args).await,
        Command::Seed(args) => until_told(seed::run(&args)).await,
        Command::Replay(args) => until_told(replay::run(*args, screen)).await,
        Command::Audit(args) => until_told(audit::run(*args)).await,
        Command::Dlq(args) => until_told(Box::pin(dlq::run(&args))).await,
        Command::Faults(args) => Box::pin(faults::run(&args)).await,
        Command::Bootstrap(args) => until_told(cluster::bootstrap::run(&args)).await,
        Command::VaultConfigure(args) => until_told(cluster::vault_configure::run(&args)).await,
        Command::KafkaConfigure(args) => until_told(cluster::kafka_configure::run(&args)).await,
        Command::Smoke(args) => until_told(cluster::smoke::run(&args)).await,
        Command::Probe(args) => until_told(Box::pin(cluster::probe::run(&args))).await,
    }
}

/// Runs something that comes to an end by itself, unless SIGTERM ends it before. The first process
/// of a container has to say so: without a handler the signal would do nothing there.
async fn until_told(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = work => ended,
        _ = terminate.recv() => bail!("told to stop before it was done"),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    out::error(&format!("error: {error:#}"));
    ExitCode::FAILURE
}
