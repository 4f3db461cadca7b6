//! `portolan dlq`: what operators do about dead letters, over the gateway's `/v1/admin/dlq`.
//!
//! The token is signed with the issuer's key of the local installation or of `--config`, or comes
//! from `--token-file`. Whoever it names is who did it, in the trail that the services keep.

mod remedy;
mod show;
mod target;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::out;
use remedy::Kind;
use target::Target;

/// Every consumer group, in the order in which the gateway lists them.
const GROUPS: [&str; 4] = ["order", "inventory", "payment", "notification"];

/// Lists, shows, redrives or drops dead letters.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
}

/// Where the shop is, who acts, and how to answer.
#[derive(Debug, clap::Args)]
struct Place {
    /// The directory that holds everything the local installation writes.
    #[arg(long, env = "PORTOLAN_STATE", default_value = ".portolan", value_name = "DIR")]
    #[arg(global = true)]
    state: PathBuf,
    /// Where the shop is and how tokens are signed, instead of the running local installation.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The gateway, if not that of the local installation or of `--config`.
    #[arg(long, value_name = "URL", global = true)]
    gateway: Option<String>,
    /// Use the token in this file instead of signing one.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Whom a signed token names.
    #[arg(long, value_name = "NAME", default_value = "operator", env = "USER", global = true)]
    operator: String,
    /// Jaeger's address, for links to traces.
    #[arg(long, value_name = "URL", global = true)]
    jaeger: Option<String>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows which records could not be applied, and why.
    List {
        /// Only those of this consumer group.
        #[arg(long, value_parser = GROUPS)]
        group: Option<String>,
        /// Only those of this key: an order id.
        #[arg(long)]
        key: Option<String>,
    },
    /// Shows one with its message, what waits behind it, and what operators did about its key.
    Show {
        /// The consumer group.
        #[arg(long, value_parser = GROUPS)]
        group: String,
        /// The event.
        #[arg(long, value_name = "ID")]
        event: String,
    },
    /// Applies dead letters and what waits behind them, in order; exit code 1 if something
    /// remains.
    Redrive(Remedy),
    /// Gives dead letters up, those that there are at the beginning, and applies what waits behind
    /// them; exit code 1 if something remains.
    Drop(Remedy),
}

#[derive(Debug, clap::Args)]
struct Remedy {
    /// The consumer group; all of them with `--all` alone.
    #[arg(long, value_parser = GROUPS, required_unless_present = "all")]
    group: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Why, for those who read the trail later.
    #[arg(long)]
    reason: String,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The dead letter of this key: an order id.
    #[arg(long)]
    key: Option<String>,
    /// This event, which must be a dead letter.
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// All of the group.
    #[arg(long)]
    all: bool,
}

/// A dead letter in the gateway's words; what is not shown in the list is kept for `--json`.
#[derive(Debug, Deserialize, Serialize)]
struct Letter {
    group: String,
    event_id: String,
    key: String,
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    detail: String,
    since: String,
    waiting: i64,
    trace_id: String,
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default)]
    trace_url: Option<String>,
    #[serde(default)]
    behind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Page {
    dead_letters: Vec<Letter>,
    next_cursor: Option<String>,
}

/// # Errors
/// There is no gateway, it refuses, or there is no such dead letter.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let target = Target::find(&args.place)?;
    match &args.action {
        Action::List { group, key } => {
            list(&target, group.as_deref(), key.as_deref(), args.place.json).await
        }
        Action::Show { group, event } => show(&target, group, event, args.place.json).await,
        Action::Redrive(order) => remedy::run(&target, Kind::Redrive, order, args.place.json).await,
        Action::Drop(order) => remedy::run(&target, Kind::Drop, order, args.place.json).await,
    }
}

async fn list(
    target: &Target,
    group: Option<&str>,
    key: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let (mut letters, mut failed) = (Vec::new(), false);
    for group in groups(group) {
        // A group whose service is down does not hide the others.
        match letters_of(target, group, key).await {
            Ok(found) => letters.extend(found),
            Err(error) => {
                failed = true;
                out::error(&format!("{group}: {error:#}"));
            }
        }
    }
    out::line(&if json {
        serde_json::to_string_pretty(&letters)?
    } else {
        show::list(&letters, !failed)
    });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The group that was named, or all of them.
fn groups(named: Option<&str>) -> Vec<&str> {
    named.map_or_else(|| GROUPS.to_vec(), |group| vec![group])
}

/// The dead letters of a group, or only those of a key: every page.
async fn letters_of(
    target: &Target,
    group: &str,
    key: Option<&str>,
) -> anyhow::Result<Vec<Letter>> {
    let (mut letters, mut cursor) = (Vec::new(), None);
    loop {
        let parameters = [("group", Some(group)), ("key", key), ("cursor", cursor.as_deref())];
        let page: Page = target.get("/v1/admin/dlq", &parameters).await?;
        letters.extend(page.dead_letters.into_iter().map(|letter| target.linked(letter)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(letters);
        }
    }
}

async fn show(target: &Target, group: &str, event: &str, json: bool) -> anyhow::Result<ExitCode> {
    let plain = event.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    ensure!(plain && !event.is_empty(), "{event} is no event id");
    let mut shown: Value = target.get(&format!("/v1/admin/dlq/{group}/{event}"), &[]).await?;
    let trace_id = shown["dead_letter"]["trace_id"].as_str().unwrap_or_default();
    if let Some(url) = target.trace_url(trace_id) {
        shown["dead_letter"]["trace_url"] = url.into();
    }
    out::line(&if json { serde_json::to_string_pretty(&shown)? } else { show::letter(&shown) });
    Ok(ExitCode::SUCCESS)
}
