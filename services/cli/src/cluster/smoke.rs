//! `portolan smoke`: one order through a running shop, as a customer sees it, and its trace.
//!
//! Every step prints a line. The first that fails ends it: with the reason, and exit code 1.

mod shop;
mod trace;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use super::config::Config;
use crate::{local::random_bytes, out, users};
use shop::{Placed, Shop, Status, Timeline};
use trace::Jaeger;

/// Between two looks at something that is still under way.
const PAUSE: Duration = Duration::from_millis(500);
/// The services that an order goes through.
const SERVICES: [&str; 4] = ["order", "inventory", "payment", "notification"];

/// How to run it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The gateway.
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    gateway: Option<String>,
    /// Jaeger's query address. Without it, traces are not looked at.
    #[arg(long, value_name = "URL")]
    jaeger: Option<String>,
    /// Log in as the first customer of this directory (files named like a user, holding the
    /// password).
    #[arg(long, value_name = "DIR", required_unless_present = "token_file")]
    users_dir: Option<PathBuf>,
    /// Use the token in this file instead of logging in.
    #[arg(long, value_name = "FILE", conflicts_with = "users_dir")]
    token_file: Option<PathBuf>,
    /// Where the gateway and Jaeger are, if their arguments do not say.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Who must have taken part in the trace.
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',')]
    #[arg(default_values_t = default_traced())]
    traced: Vec<String>,
    /// How long a step may take, in seconds.
    #[arg(long, default_value_t = 60)]
    patience_secs: u64,
}

fn default_traced() -> Vec<String> {
    ["gateway"].into_iter().chain(SERVICES).map(str::to_owned).collect()
}

/// # Errors
/// The step that failed, and why.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let gateway = args.gateway.as_ref().or(config.services.gateway.first());
    let gateway = gateway.context("there is no gateway: name it with --gateway")?;
    let jaeger = args.jaeger.as_ref().or(config.services.jaeger.as_ref());
    let patience = Duration::from_secs(args.patience_secs);

    let shop = log_in(args, gateway, patience).await?;
    let (order, key) = place(&shop).await?;
    let completed = follow(&shop, &order.id).await?;
    step("completed", &format!("order {} after {} ms", order.id, completed.as_millis()));
    replay(&shop, &order, &key).await?;
    let trace_id = tell(&shop, &order).await?;
    match jaeger {
        Some(url) => find_trace(&Jaeger::new(url)?, &trace_id, &args.traced, patience).await?,
        None => step("trace", "not looked at: there is no --jaeger"),
    }
    out::line("the shop works");
    Ok(ExitCode::SUCCESS)
}

fn step(name: &str, found: &str) {
    out::line(&format!("{name:<12}{found}"));
}

async fn log_in(args: &Args, gateway: &str, patience: Duration) -> anyhow::Result<Shop> {
    if let Some(file) = &args.token_file {
        let token = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let shop = Shop::new(gateway, token.trim().into(), patience)?;
        step("token", &format!("of {}", file.display()));
        return Ok(shop);
    }
    let dir = args.users_dir.as_deref().context("there is no user: name --users-dir")?;
    let (shop, name) = Shop::log_in(gateway, users::read(dir)?, patience).await?;
    step("logged in", &format!("as {name} at {gateway}"));
    Ok(shop)
}

async fn place(shop: &Shop) -> anyhow::Result<(Placed, String)> {
    let product = shop.product().await.context("products cannot be listed")?;
    step("product", &format!("{} {}, {} in stock", product.sku, product.name, product.available));
    let key = format!("smoke-{}", hex::encode(random_bytes::<8>()?));
    let order = shop.place(&product.sku, &key).await.context("the order was not accepted")?;
    step("placed", &format!("order {}, trace {}", order.id, order.trace_id));
    Ok((order, key))
}

/// Looks at the order until it is final; returns how long that took from now.
async fn follow(shop: &Shop, id: &str) -> anyhow::Result<Duration> {
    let since = Instant::now();
    loop {
        let order = shop.order(id).await.context("the order cannot be read")?;
        match order.status {
            Status::Completed => return Ok(since.elapsed()),
            Status::Cancelled => {
                let reason = order.cancel_reason.unwrap_or_default();
                anyhow::bail!("the order was cancelled: {reason}");
            }
            Status::Other(status) => ensure!(
                since.elapsed() < shop.patience(),
                "the order is still {status} after {} s",
                shop.patience().as_secs()
            ),
        }
        sleep(PAUSE).await;
    }
}

/// The same request again must be the same order, and say so.
async fn replay(shop: &Shop, order: &Placed, key: &str) -> anyhow::Result<()> {
    let again = shop.place(&order.sku, key).await.context("the repeated order was not accepted")?;
    ensure!(again.id == order.id, "the same key made another order, {}", again.id);
    ensure!(again.replayed, "the repeated order is not marked as replayed");
    step("repeated", "the same key is the same order");
    Ok(())
}

/// The timeline tells of all services, and of one trace. Returns its id.
async fn tell(shop: &Shop, order: &Placed) -> anyhow::Result<String> {
    let since = Instant::now();
    loop {
        let timeline = shop.timeline(&order.id).await.context("the timeline cannot be read")?;
        let missing = absent(&timeline.sources(), &SERVICES);
        if missing.is_empty() {
            let trace_id = one_trace(&timeline, order)?;
            step("timeline", &format!("{} events of all services", timeline.entries.len()));
            return Ok(trace_id);
        }
        let waited = since.elapsed();
        ensure!(waited < shop.patience(), "the timeline does not tell of {}", missing.join(", "));
        sleep(PAUSE).await;
    }
}

/// The trace that all events are part of.
fn one_trace(timeline: &Timeline, order: &Placed) -> anyhow::Result<String> {
    let traces: BTreeSet<&str> =
        timeline.entries.iter().map(|entry| entry.trace_id.as_str()).collect();
    let [trace_id] = traces.iter().collect::<Vec<_>>()[..] else {
        anyhow::bail!("the timeline is of {} traces", traces.len());
    };
    // An answer that was lost is given again under another trace.
    let same = order.replayed || order.trace_id == *trace_id;
    ensure!(same, "the timeline is of trace {trace_id}, the order of {}", order.trace_id);
    Ok((*trace_id).to_owned())
}

async fn find_trace(
    jaeger: &Jaeger,
    trace_id: &str,
    traced: &[String],
    patience: Duration,
) -> anyhow::Result<()> {
    let since = Instant::now();
    let traced: Vec<&str> = traced.iter().map(String::as_str).collect();
    loop {
        // It arrives in parts, each when its service has collected a batch.
        let (problem, found) = match jaeger.trace(trace_id).await {
            Ok(found) => (absent(&found.components, &traced).join(", "), Some(found)),
            Err(error) => (format!("any: {error:#}"), None),
        };
        if let Some(found) = found.filter(|_| problem.is_empty()) {
            let who: Vec<&str> = found.components.iter().map(String::as_str).collect();
            step("trace", &format!("one, {} spans of {}", found.spans, who.join(", ")));
            return Ok(());
        }
        let seconds = patience.as_secs();
        ensure!(
            since.elapsed() < patience,
            "after {seconds} s the trace {trace_id} has no spans of {problem}"
        );
        sleep(PAUSE).await;
    }
}

fn absent<'a>(found: &BTreeSet<String>, wanted: &[&'a str]) -> Vec<&'a str> {
    wanted.iter().copied().filter(|name| !found.contains(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(replayed: bool) -> Placed {
        let (id, sku) = ("1".to_owned(), "A".to_owned());
        Placed { id, sku, trace_id: "aa".to_owned(), replayed }
    }

    fn timeline(traces: &[&str]) -> Timeline {
        let entries: Vec<_> = traces
            .iter()
            .map(|trace| serde_json::json!({"source": "/portolan/order", "trace_id": trace}))
            .collect();
        serde_json::from_value(serde_json::json!({"entries": entries})).unwrap()
    }

    #[test]
    fn an_order_is_one_trace_from_its_first_answer_to_its_last_event() {
        assert_eq!(one_trace(&timeline(&["aa", "aa"]), &order(false)).unwrap(), "aa");
        assert!(one_trace(&timeline(&["aa", "bb"]), &order(false)).is_err());
        assert!(one_trace(&timeline(&["aa", ""]), &order(false)).is_err());
        assert!(one_trace(&timeline(&["bb"]), &order(false)).is_err());
        assert_eq!(one_trace(&timeline(&["bb"]), &order(true)).unwrap(), "bb");
    }

    #[test]
    fn a_timeline_names_the_services_without_their_path() {
        assert_eq!(timeline(&["aa"]).sources(), BTreeSet::from(["order".to_owned()]));
        let missing = absent(&timeline(&["aa"]).sources(), &SERVICES);
        assert_eq!(missing, ["inventory", "payment", "notification"]);
    }
}
