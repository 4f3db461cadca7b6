//! `portolan audit`: holds the invariants of the design against everything that is stored.
//!
//! The auditor reads the databases of the four services, the payment provider's ledger and the
//! Kafka topics, and says what does not agree. It shares no code with the services but the
//! contracts: it reads their tables itself, with its own queries and its own idea of the state
//! machines, so that a mistake of theirs is not repeated here. That is why its SQL is checked
//! when it runs and not, as everywhere else, when it is compiled: the macros know one database
//! for each crate, and these are five.
//!
//! Two kinds of invariants: `I1` to `I10` hold at any time and can be checked while the shop is
//! working (`--online`); `Q1` to `Q9` hold when it has come to rest, which the default waits for.
//! Nothing is ever written. Every database is read in one read-only transaction, as of one
//! moment; across databases the order of reading makes the comparison safe (see the module `sources`).

mod databases;
mod invariants;
mod inventory;
mod messaging;
mod notification;
mod order;
mod payment;
mod provider;
mod report;
mod requests;
mod sources;
mod topics;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use invariants::Rules;
use report::Verdict;
use sources::Snapshot;

use crate::{cli::StateArg, cluster::config::Config, local::StateDir, out};

pub(crate) use databases::Databases;
pub(crate) use report::Report;
pub(crate) use topics::Kafka;

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(300);

/// Where Kafka is when nothing says otherwise.
const KAFKA_PORT: u16 = 9092;

/// Exit code: something does not hold.
const VIOLATED: u8 = 1;
/// Exit code: the auditor could not look.
const UNCHECKED: u8 = 2;

/// Checks the invariants over all databases, topics and ledgers; exit code 1 if one is violated,
/// 2 if they could not be checked.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// Where databases and topics are and how to be let in, instead of the state directory.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The order service's database; with the four others, instead of the state directory.
    #[arg(long, value_name = "URL", requires_all = ["inventory_url", "payment_url", "notification_url", "psp_url"])]
    order_url: Option<String>,
    /// The inventory service's database.
    #[arg(long, value_name = "URL", requires = "order_url")]
    inventory_url: Option<String>,
    /// The payment service's database.
    #[arg(long, value_name = "URL", requires = "order_url")]
    payment_url: Option<String>,
    /// The notification service's database.
    #[arg(long, value_name = "URL", requires = "order_url")]
    notification_url: Option<String>,
    /// The payment provider's database.
    #[arg(long, value_name = "URL", requires = "order_url")]
    psp_url: Option<String>,
    /// Kafka's bootstrap brokers; those of the running local installation if not given.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// What stands before every topic's name.
    #[arg(long, default_value = "", value_name = "PREFIX")]
    topic_prefix: String,
    /// Check only what holds at any time, and do not wait.
    #[arg(long, conflicts_with = "quiescent")]
    online: bool,
    /// Wait for rest and check everything; the default.
    #[arg(long)]
    quiescent: bool,
    /// How long to wait for rest.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    settle_secs: u64,
    /// The limit of open orders that the order service is configured with; 0 for none.
    #[arg(long, default_value_t = 0, value_name = "N")]
    open_order_limit: i64,
    /// Every attempt to place an order, one JSON object {"user","key","order"} a line, order null
    /// when no answer came: then Q1 compares them with the orders.
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// The file has all attempts with keys that begin so; other orders were asked for by others.
    #[arg(long, default_value = "", requires = "requests", value_name = "PREFIX")]
    requests_prefix: String,
    /// Accept dead letters whose reason is written down.
    #[arg(long)]
    accept_explained_dead_letters: bool,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// Runs the audit and prints its report. What keeps the auditor from looking ends in one line on
/// standard error and exit code 2.
///
/// # Errors
/// The report cannot be turned into text.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = match audit(&args).await {
        Ok(report) => report,
        Err(error) => {
            out::error(&format!("audit: could not check: {error:#}"));
            return Ok(ExitCode::from(UNCHECKED));
        }
    };
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.table() };
    out::line(&text);
    Ok(match report.verdict {
        Verdict::Clean => ExitCode::SUCCESS,
        Verdict::Violated | Verdict::NotAtRest => ExitCode::from(VIOLATED),
    })
}

/// Audits a local installation as soon as it has come to rest, after `patience` at the latest.
/// `requests` says what its customers asked for, `planted` which records nobody committed, and `explained` accepts dead
/// letters whose reason is written down.
///
/// # Errors
/// The auditor could not look.
pub(crate) async fn at_rest(
    state: &StateDir,
    requests: &Path,
    planted: HashSet<Uuid>,
    explained: bool,
    patience: Duration,
) -> anyhow::Result<Report> {
    let databases = Databases::read(&state.databases())?;
    let kafka = Kafka::beside(&databases, brokers(state)?, String::new());
    let rules = Rules {
        open_order_limit: 0,
        explained_dead_letters: explained,
        planted,
        attempts: Some(requests::read(requests)?),
        attempts_prefix: String::new(),
        fences: sources::fences(&databases).await?,
    };
    settle(&databases, &kafka, &rules, patience).await
}

async fn audit(args: &Args) -> anyhow::Result<Report> {
    let (databases, kafka) = args.sources()?;
    let rules = Rules {
        open_order_limit: args.open_order_limit,
        explained_dead_letters: args.accept_explained_dead_letters,
        planted: HashSet::new(),
        attempts: args.requests.as_deref().map(requests::read).transpose()?,
        attempts_prefix: args.requests_prefix.clone(),
        fences: sources::fences(&databases).await?,
    };
    if args.online {
        let all = Snapshot::read(&databases, &kafka).await?;
        return Ok(Report::new(true, invariants::at_any_time(&all, &rules), vec![], notes(&all)));
    }
    settle(&databases, &kafka, &rules, Duration::from_secs(args.settle_secs)).await
}

/// Checks everything as soon as nothing is under way, and again while it might only be that an
/// event is still on its way: what must hold at any time gets no second chance.
async fn settle(
    databases: &Databases,
    kafka: &Kafka,
    rules: &Rules,
    patience: Duration,
) -> anyhow::Result<Report> {
    let deadline = Instant::now() + patience;
    loop {
        let unfinished = sources::unfinished(databases).await?;
        let over = Instant::now() >= deadline;
        if unfinished.is_empty() || over {
            let report = check(databases, kafka, rules, unfinished).await?;
            if over || report.verdict == Verdict::Clean || report.breaks_at_any_time() {
                return Ok(report);
            }
        }
        sleep(PAUSE).await;
    }
}

async fn check(
    databases: &Databases,
    kafka: &Kafka,
    rules: &Rules,
    unfinished: Vec<String>,
) -> anyhow::Result<Report> {
    let all = Snapshot::read(databases, kafka).await?;
    let mut findings = invariants::at_any_time(&all, rules);
    // What is under way would break the other invariants without meaning anything.
    if unfinished.is_empty() {
        findings.extend(invariants::at_rest(&all, rules));
    }
    Ok(Report::new(false, findings, unfinished, notes(&all)))
}

fn notes(all: &Snapshot) -> Vec<String> {
    let truncated = all.topics.truncated.iter().map(|topic| {
        format!("{}: the broker dropped old records, so only the others count", topic.name())
    });
    let unread = || "the provider's books were not read, so only our side of payments counts";
    truncated.chain(all.provider.is_none().then(unread).map(str::to_owned)).collect()
}

/// The broker of the running local installation, or where it would be.
fn brokers(state: &StateDir) -> anyhow::Result<String> {
    let running = state.running()?;
    let kafka = running
        .as_ref()
        .and_then(|record| record.rows.iter().find(|process| process.name == "kafka"));
    Ok(format!("127.0.0.1:{}", kafka.map_or(KAFKA_PORT, |process| process.port)))
}

impl Args {
    fn sources(&self) -> anyhow::Result<(Databases, Kafka)> {
        let Some(file) = &self.config else {
            let databases = self.databases()?;
            let kafka = Kafka::beside(&databases, self.brokers()?, self.topic_prefix.clone());
            return Ok((databases, kafka));
        };
        let config = Config::read(file)?;
        let missing = |section| format!("{} has no [{section}]", file.display());
        let databases = config.databases.with_context(|| missing("databases"))?;
        Ok((databases, config.kafka.with_context(|| missing("kafka"))?))
    }

    fn brokers(&self) -> anyhow::Result<String> {
        if let Some(brokers) = &self.brokers {
            return Ok(brokers.clone());
        }
        brokers(&StateDir::at(&self.state.state)?)
    }

    fn databases(&self) -> anyhow::Result<Databases> {
        let urls = [
            &self.order_url,
            &self.inventory_url,
            &self.payment_url,
            &self.notification_url,
            &self.psp_url,
        ];
        let urls: Vec<String> = urls.into_iter().flatten().cloned().collect();
        match <[String; 5]>::try_from(urls) {
            Ok(urls) => Ok(Databases::plain(urls)),
            Err(_) => Databases::read(&StateDir::at(&self.state.state)?.databases()),
        }
    }
}
