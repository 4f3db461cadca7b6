//! `portolan faults`: a shop of its own under load, hurt in every way by a schedule that a seed
//! gives, then healed and audited.
//!
//! The schedule is printed first and is a pure function of seed, length and kinds. The shop is
//! what `portolan up` starts, two replicas of every service. Its customers send real orders at a
//! steady rate and repeat what was not answered, and write down every answer. After the last fault
//! everything is made whole, the shop comes to rest, and the auditor reads all of it.

mod clocks;
mod ends;
mod failpoints;
mod installation;
mod kinds;
mod letters;
mod mailbox;
mod plan;
mod proxy;
mod recovery;
mod report;
mod schedule;
mod systematic;
mod workload;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use futures::FutureExt as _;
use portolan_kernel::{Clock as _, SystemClock};
use time::OffsetDateTime;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use clocks::Clocks;
use ends::Ends;
use installation::Installation;
use plan::Plan;
use recovery::Throughput;
use report::{Injected, Run, Summary};
use schedule::{Fault, Kind, WARM_UP, schedule};
use workload::{Customers, Met};

use crate::{
    audit::{self, Databases},
    local::StopSignals,
    out,
    token::Signer,
};

/// The part of the warm-up that is not counted: connections are made, groups find together.
const FIRST_ORDERS: Duration = Duration::from_secs(6);
/// How long everything may take to be ready again after the last fault.
const HEALED: Duration = Duration::from_mins(1);
/// How long customers go on asking after the last order was due.
const PERSISTENCE: Duration = Duration::from_secs(90);
/// How long the shop may take to come to rest.
const REST: Duration = Duration::from_mins(2);

/// What to do to the shop, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the schedule and the orders come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the load lasts.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// So many runs, with this seed and those that follow.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Only faults of this kind. May be repeated.
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// Orders a second.
    #[arg(long, default_value_t = 8.0)]
    rate: f64,
    /// Instead of a schedule: has every program end at every one of its failpoints, in the life of
    /// one order each. Needs programs that are built with them.
    #[arg(long, conflicts_with_all = ["runs", "only", "json", "markdown"])]
    systematic: bool,
    /// Prints the schedule and does nothing.
    #[arg(long)]
    dry_run: bool,
    /// The directory of the installation, which is made for this and removed when all is well.
    #[arg(long, default_value = ".portolan-faults", value_name = "DIR")]
    state: PathBuf,
    /// Added to every port.
    #[arg(long, default_value_t = 12_000)]
    port_offset: u16,
    /// Writes all runs and their summary to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the tables of the summary to this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// # Errors
/// A run cannot be made. That something was lost or violated is exit code 1.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ensure!(args.rate.is_finite() && args.rate > 0.0, "the rate must be positive");
    ensure!(args.minutes.is_finite() && args.minutes > 0.0, "the length must be positive");
    if args.systematic {
        return systematic::run(args).await;
    }
    let only: BTreeSet<Kind> = args.only.iter().copied().collect();
    // For all runs, so that a signal between two of them, or while one starts, is not missed.
    let mut signals = StopSignals::new()?;
    let mut runs = Vec::new();
    for seed in args.seed..args.seed.saturating_add(args.runs) {
        ensure!(signals.next().now_or_never().is_none(), Told);
        let faults = schedule(seed, args.length(), &only);
        announce(seed, args, &faults);
        if args.dry_run {
            continue;
        }
        let run = match one(args, seed, faults, &mut signals).await {
            Err(error) if !error.is::<Told>() => Run::broken(seed, args.minutes, &error),
            ended => ended?,
        };
        out::line(&report::text(&run));
        if !run.sound() {
            out::line(&format!("seed {seed} FAILED; again with: {}", args.again(seed)));
        }
        runs.push(run);
        write(args, &runs)?;
    }
    if !args.dry_run {
        out::line(&Summary::of(&runs).markdown());
    }
    Ok(if runs.iter().all(Run::sound) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn announce(seed: u64, args: &Args, faults: &[Fault]) {
    out::line(&format!("seed {seed}, {} minutes, {} faults:", args.minutes, faults.len()));
    for fault in faults {
        out::line(&fault.to_string());
    }
}

/// After every run: a long campaign that is interrupted has not been for nothing.
fn write(args: &Args, runs: &[Run]) -> anyhow::Result<()> {
    let summary = Summary::of(runs);
    if let Some(file) = &args.json {
        let all = serde_json::json!({"summary": summary, "runs": runs});
        std::fs::write(file, serde_json::to_vec_pretty(&all)?)?;
    }
    if let Some(file) = &args.markdown {
        std::fs::write(file, summary.markdown())?;
    }
    Ok(())
}

/// One run, from an empty installation to the auditor's verdict.
async fn one(
    args: &Args,
    seed: u64,
    faults: Vec<Fault>,
    signals: &mut StopSignals,
) -> anyhow::Result<Run> {
    let plan = Plan::new(seed, args.orders())?;
    let stepped = faults.iter().any(|fault| fault.kind == Kind::ClockStep);
    let clocks = if stepped { Some(Clocks::make().await?) } else { None };
    let shop = Installation::start(&args.state, args.port_offset, &[], clocks).await?;
    let all = async {
        let done = hurt(args, &shop, &plan, faults).await?;
        judge(args, &shop, done).await
    };
    let run = unless_told(signals, all).await;
    shop.stop(run.as_ref().is_ok_and(Run::sound)).await?;
    Ok(Run { seed, ..run? })
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("told to stop before it was done")]
struct Told;

/// Ends work when we are told to, so that what was started can be stopped.
async fn unless_told<T>(
    signals: &mut StopSignals,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        () = signals.next() => bail!(Told),
        ended = work => ended,
    }
}

/// What happened while the shop was under load.
struct Done {
    start: OffsetDateTime,
    met: Met,
    injected: Vec<Ended>,
    violations: Vec<String>,
    requests: PathBuf,
}

/// A fault and when it was over.
struct Ended {
    fault: Fault,
    skipped: Option<String>,
    over: Duration,
}

async fn hurt(
    args: &Args,
    shop: &Installation,
    plan: &Plan,
    faults: Vec<Fault>,
) -> anyhow::Result<Done> {
    shop.stock(&plan.catalogue, |product| plan.stock(product)).await?;
    let requests = shop.state().logs().join("requests.jsonl");
    let signer = Signer::open(shop.state())?;
    let customers = Customers::new(&shop.record()?.gateways, signer, &requests)?;
    let first = plan::first(plan.seed, &plan.catalogue);
    customers.first(&first, Instant::now() + HEALED).await?;
    let (start, now) = (SystemClock.now(), Instant::now());
    let interval = Duration::from_secs_f64(1.0 / args.rate);
    let deadline = now + args.length() + PERSISTENCE;
    let mut load = JoinSet::new();
    load.spawn(Arc::clone(&customers).run(plan.orders.clone(), now, interval, deadline));
    let injected = inject_all(shop, faults, now).await?;
    let mut violations = Vec::new();
    kinds::heal(shop).await?;
    if let Err(error) = shop.ready(HEALED).await {
        violations.push(format!("not whole again: {error:#}"));
    }
    let met = load.join_next().await.context("there was no load")???;
    Ok(Done { start, met, injected, violations, requests })
}

/// Injects every fault at its time, and waits until all are over.
async fn inject_all(
    shop: &Installation,
    faults: Vec<Fault>,
    start: Instant,
) -> anyhow::Result<Vec<Ended>> {
    let mut running = JoinSet::new();
    for fault in faults {
        sleep_until(start + fault.at()).await;
        let shop = shop.clone();
        running.spawn(async move {
            let skipped = kinds::inject(&shop, &fault).await.err();
            let skipped = skipped.map(|error| format!("{error:#}"));
            Ended { fault, skipped, over: start.elapsed() }
        });
    }
    let mut ended = Vec::new();
    while let Some(one) = running.join_next().await {
        ended.push(one?);
    }
    ended.sort_by_key(|ended| ended.fault.at_ms);
    Ok(ended)
}

/// Lets the shop come to rest, audits it, and measures.
async fn judge(args: &Args, shop: &Installation, done: Done) -> anyhow::Result<Run> {
    let mut violations = done.violations;
    // At rest it is known which records could not be applied.
    let audit =
        |explained| audit::at_rest(shop.state(), &done.requests, shop.planted(), explained, REST);
    let mut report = audit(true).await?;
    if !shop.planted().is_empty() {
        violations.extend(letters::drop_planted(shop).await?);
    }
    if report.complaints().is_empty() {
        report = audit(false).await?;
    }
    violations.extend(report.complaints());
    let databases = Databases::read(&shop.state().databases())?;
    let ends = Ends::read(&databases, done.start).await?;
    let throughput = Throughput::new(ends.completed, (FIRST_ORDERS, WARM_UP));
    let measurable = throughput.before() >= recovery::MEASURABLE * args.rate;
    let faults = measured(&done.injected, &throughput, measurable.then(|| args.length()));
    Ok(Run {
        seed: args.seed,
        minutes: args.minutes,
        attempts: done.met.attempts,
        accepted: done.met.accepted,
        orders: ends.counts,
        refused: done.met.refused,
        before: throughput.before(),
        completed_each_second: throughput.each_second(),
        faults,
        lost: done.met.lost,
        violations,
    })
}

/// Every fault with its recovery. Another one that begins meanwhile makes it longer.
fn measured(all: &[Ended], throughput: &Throughput, until: Option<Duration>) -> Vec<Injected> {
    let injected = |ended: &Ended| {
        let until = until.filter(|_| ended.skipped.is_none());
        let recovery = until.and_then(|until| throughput.recovery(ended.over, until));
        let back = ended.over + recovery.unwrap_or_default();
        let meanwhile =
            |other: &Ended| other.fault.at() > ended.fault.at() && other.fault.at() < back;
        Injected {
            fault: ended.fault.clone(),
            skipped: ended.skipped.clone(),
            recovery_ms: recovery.and_then(|time| time.as_millis().try_into().ok()),
            disturbed: all.iter().any(meanwhile),
        }
    };
    all.iter().map(injected).collect()
}

impl Args {
    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of orders"
    )]
    fn orders(&self) -> usize {
        (self.length().as_secs_f64() * self.rate) as usize
    }

    /// The command that repeats one run.
    fn again(&self, seed: u64) -> String {
        let mut words = vec![format!("portolan faults --seed {seed} --minutes {}", self.minutes)];
        words.push(format!("--rate {}", self.rate));
        words.extend(self.only.iter().map(|kind| format!("--only {}", kind.name())));
        words.join(" ")
    }
}
