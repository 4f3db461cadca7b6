use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{audit, cluster, dlq, faults, k6, local, replay, seed, token};

/// Runs Portolan on this machine, and looks after what runs.
#[derive(Debug, Parser)]
#[command(name = "portolan", version)]
pub(crate) struct Cli {
    /// Plain output, whatever it is written to (<https://no-color.org>).
    #[arg(long, global = true, env = "NO_COLOR", hide_env_values = true)]
    #[arg(num_args = 0..=1, default_missing_value = "1")]
    pub no_color: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

/// Which local installation is meant.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StateArg {
    /// The directory that holds everything the local installation writes.
    #[arg(long, env = "PORTOLAN_STATE", default_value = ".portolan", value_name = "DIR")]
    pub state: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts PostgreSQL, Kafka, Redis, the payment provider and the five services, and keeps them
    /// running.
    Up(Box<local::UpArgs>),
    /// Stops what `up` started.
    Down(StateArg),
    /// Shows what runs: state, port, process and memory.
    Status(StateArg),
    /// Prints a token of the local issuer, for use with curl.
    Token(token::Args),
    /// Writes what k6 needs to put load on the shop: scripts, orders, and tokens.
    K6(k6::Args),
    /// Loads the catalogue and its stock into inventory.
    Seed(seed::Args),
    /// Places the orders of a file through the gateway and compares the outcome with the file.
    Replay(Box<replay::Args>),
    /// Checks the invariants over all databases and the provider's ledger.
    Audit(Box<audit::Args>),
    /// Looks after dead letters: the records that a consumer could not apply.
    Dlq(Box<dlq::Args>),
    /// Hurts a shop of its own in every way, by a schedule that a seed gives, and audits it.
    Faults(Box<faults::Args>),
    /// In a cluster: makes the secrets that everything else begins with, where they are missing.
    Bootstrap(cluster::bootstrap::Args),
    /// In a cluster: initialises Vault once, unseals it after every start, and hands it over.
    VaultOperator(cluster::vault_operator::Args),
    /// In a cluster: brings Vault's policies, roles, certificate authority and logins up to date.
    VaultConfigure(cluster::vault_configure::Args),
    /// In a cluster: brings Kafka's topics and access control lists up to date.
    KafkaConfigure(cluster::kafka_configure::Args),
    /// In a cluster: sends one order through the shop and follows it to its end.
    Smoke(cluster::smoke::Args),
    /// In a cluster: makes one gRPC call and prints how it was answered.
    Probe(cluster::probe::Args),
}
