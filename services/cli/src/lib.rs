//! The `portolan` command: runs the shop on one machine (`up`, `status`, `down`), loads the
//! catalogue (`seed`), places real orders and compares the outcome with the file (`replay`), signs
//! tokens (`token`), and checks the invariants over all databases (`audit`).
//!
//! Everything that a command leaves behind is in one state directory (`--state`, by default
//! `.portolan`).

pub mod audit;
mod catalogue;
mod cli;
mod local;
mod out;
mod replay;
mod seed;
mod token;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

/// Process entry: parses the command line and runs the command. Whatever fails ends in one line on
/// standard error and exit code 1.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let screen = out::Screen::new(cli.no_color.as_deref());
    match cli.command {
        Command::Up(args) => local::up(*args, screen).await,
        Command::Down(args) => local::down(&args.state, screen).await,
        Command::Status(args) => local::status(&args.state, screen),
        Command::Token(args) => token::run(&args),
        Command::Seed(args) => seed::run(&args).await,
        Command::Replay(args) => replay::run(args, screen).await,
        Command::Audit(args) => audit::run(args).await,
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    out::error(&format!("error: {error:#}"));
    ExitCode::FAILURE
}
