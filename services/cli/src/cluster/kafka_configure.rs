//! `portolan kafka-configure`: brings Kafka's topics and access control lists up to date.
//!
//! It makes the topics that are missing, and leaves those that exist as they are. Of each named
//! principal it makes the access rules exactly those that the configuration says; the rules of
//! others are not touched. Running it again changes nothing.

mod acls;
mod config;
mod connection;
mod error;
mod tls;
mod topics;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use self::{config::Config, connection::Connection, error::KafkaError};
use crate::out;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long what the controller has decided may be unknown to the broker that we ask.
const NEWS_TRAVELS: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// How to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

/// Tries until it is done, or until the configured time is over.
///
/// # Errors
/// The configuration is wrong, Kafka refuses something for good, or it does not answer in time.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    portolan_runtime::install_crypto();
    let config = Config::read(&args.config)
        .with_context(|| format!("cannot use {}", args.config.display()))?;
    let done = until_done(&config).await.context("cannot configure Kafka")?;
    out::line(&format!(
        "Kafka: topics {} ({} new), access rules {} ({} new, {} removed)",
        config.topics().len(),
        done.topics,
        done.rules,
        done.added,
        done.removed
    ));
    Ok(ExitCode::SUCCESS)
}

/// What there was to do.
#[derive(Debug)]
struct Done {
    topics: usize,
    rules: usize,
    added: usize,
    removed: usize,
}

async fn until_done(config: &Config) -> Result<Done, KafkaError> {
    let deadline = Instant::now() + Duration::from_secs(config.timeout_secs);
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    loop {
        let problem = match attempt(config).await {
            Ok(done) => return Ok(done),
            Err(problem) if problem.is_final() || Instant::now() + pause > deadline => {
                return Err(problem);
            }
            Err(problem) => portolan_runtime::one_line(&problem),
        };
        if problem != told {
            out::line(&format!("trying again: {problem}"));
            told = problem;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn attempt(config: &Config) -> Result<Done, KafkaError> {
    let mut kafka = Connection::open(config).await?;
    let created = topics::create_missing(&mut kafka, config).await?;
    let changes = acls::bring_up_to_date(&mut kafka, &config.principal).await?;
    Ok(Done {
        topics: created,
        rules: changes.wanted,
        added: changes.added,
        removed: changes.removed,
    })
}
