//! `portolan faults --systematic`: for every place in the code where a program can be made to end,
//! and for every way an order can go, one order in whose life it ends exactly there. In the manner
//! of the saga tests of Oxide's Omicron, which fail at every node of every saga.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use super::{
    Args, HEALED, REST,
    failpoints::{self, Failpoint},
    installation::Installation,
    kinds, letters,
    plan::{Plan, Planned},
    schedule::{Fault, Kind},
    unless_told,
    workload::Customers,
};
use crate::{audit, local::StopSignals, out, token::Signer};

/// How long others may take to come to their failpoints when an order is final.
const AFTERLIFE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A way that an order can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Completed,
    Declined,
    CaptureFailed,
    OutOfStock,
    Cancelled,
    /// Nobody decides about it until its deadline.
    TimedOut,
    /// Not an order: a record that nobody can apply.
    Poison,
}

impl Life {
    const ALL: [Self; 7] = [
        Self::Completed,
        Self::Declined,
        Self::CaptureFailed,
        Self::OutOfStock,
        Self::Cancelled,
        Self::TimedOut,
        Self::Poison,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Declined => "declined",
            Self::CaptureFailed => "capture-failed",
            Self::OutOfStock => "out-of-stock",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Poison => "poison",
        }
    }

    const fn card(self) -> &'static str {
        match self {
            Self::Completed | Self::OutOfStock | Self::Poison => "tok_ok",
            Self::Declined => "tok_declined",
            Self::CaptureFailed => "tok_capture_fails",
            Self::Cancelled | Self::TimedOut => "tok_hang",
        }
    }

    /// Waiting for a deadline takes long, so only those live so who end by it.
    fn meets(self, point: Failpoint) -> bool {
        let prefix = point.name.split(':').next().unwrap_or_default();
        match self {
            Self::TimedOut => prefix == "sweep",
            Self::Poison => prefix == "dead-letter",
            Self::Cancelled => !matches!(prefix, "sweep" | "dead-letter"),
            Self::Completed | Self::Declined | Self::CaptureFailed | Self::OutOfStock => {
                !matches!(prefix, "sweep" | "dead-letter" | "cancel")
            }
        }
    }
}

/// The whole of it; exit code 1 if anything does not hold or a place was never come to.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_programs()?;
    let directory = failpoints_directory(&args.state)?;
    let plan = Plan::new(args.seed, 1)?;
    let environment = [("PORTOLAN_FAILPOINTS", directory.as_path())];
    let shop = Installation::start(&args.state, args.port_offset, &environment, None).await?;
    let done =
        unless_told(&mut StopSignals::new()?, crash_everywhere(&shop, &plan, &directory)).await;
    let sound = matches!(&done, Ok(found) if found.sound());
    shop.stop(sound).await?;
    fs::remove_dir_all(&directory)?;
    let found = done?;
    out::line(&found.text());
    Ok(if found.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Programs without failpoints would pass every test of them.
fn check_programs() -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let order = own.with_file_name("portolan-order");
    let program = fs::read(&order).with_context(|| format!("{}", order.display()))?;
    ensure!(
        String::from_utf8_lossy(&program).contains("PORTOLAN_FAILPOINTS"),
        "{} has no failpoints; `make faults-systematic` builds programs that have",
        order.display()
    );
    Ok(())
}

/// Beside the installation, which may be removed and made anew.
fn failpoints_directory(state: &Path) -> anyhow::Result<PathBuf> {
    let directory = std::path::absolute(state)?.with_extension("failpoints");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    Ok(directory)
}

/// How often each place was come to, by the order's life.
#[derive(Debug, Default)]
struct Found {
    hits: BTreeMap<Failpoint, Vec<&'static str>>,
    lives: usize,
    violations: Vec<String>,
}

impl Found {
    fn sound(&self) -> bool {
        self.violations.is_empty() && self.hits.values().all(|lives| !lives.is_empty())
    }

    fn text(&self) -> String {
        let mut text = String::from("| Program | Ended | In the life of an order that was |\n");
        text.push_str("| --- | --- | --- |\n");
        for (point, lives) in &self.hits {
            let lives = if lives.is_empty() { "NEVER".to_owned() } else { lives.join(", ") };
            let _infallible = writeln!(text, "| {} | {} | {lives} |", point.program, point.name);
        }
        let hit = self.hits.values().filter(|lives| !lives.is_empty()).count();
        let ends: usize = self.hits.values().map(Vec::len).sum();
        let _infallible = writeln!(
            text,
            "\nhit {hit} of {} failpoints; {ends} crashes in {} lives; {} violations",
            self.hits.len(),
            self.lives,
            self.violations.len()
        );
        for violation in &self.violations {
            let _infallible = writeln!(text, "VIOLATION {violation}");
        }
        text
    }
}

async fn crash_everywhere(
    shop: &Installation,
    plan: &Plan,
    directory: &Path,
) -> anyhow::Result<Found> {
    shop.stock(&plan.catalogue, |product| plan.stock(product)).await?;
    let requests = shop.state().logs().join("requests.jsonl");
    let signer = Signer::open(shop.state())?;
    let customers = Customers::new(&shop.record()?.gateways, signer, &requests)?;
    customers.first(&order(plan, Life::Completed, 0), Instant::now() + HEALED).await?;
    let points = spread(failpoints::all());
    let mut found = Found::default();
    for point in &points {
        found.hits.insert(*point, Vec::new());
    }
    for life in Life::ALL {
        for &point in points.iter().filter(|point| life.meets(**point)) {
            found.lives += 1;
            point.arm(directory)?;
            let planned = order(plan, life, found.lives);
            if let Err(error) = live(shop, &customers, life, &planned).await {
                let what = format!("{} with {}: {error:#}", life.name(), point.label());
                found.violations.push(what);
            }
            // What follows the order's end is part of its life, too.
            let patience = Instant::now() + AFTERLIFE;
            while point.armed(directory) && Instant::now() < patience {
                sleep(LOOK_AGAIN).await;
            }
            if point.disarm(directory)?
                && let Some(lives) = found.hits.get_mut(&point)
            {
                lives.push(life.name());
            }
        }
        out::line(&format!("lived through: {}", life.name()));
    }
    found.violations.extend(verdict(shop, &requests).await?);
    Ok(found)
}

async fn verdict(shop: &Installation, requests: &Path) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    if let Err(error) = shop.ready(HEALED).await {
        violations.push(format!("not whole again: {error:#}"));
    }
    let first = audit::at_rest(shop.state(), requests, shop.planted(), true, REST).await?;
    violations.extend(first.complaints());
    violations.extend(letters::drop_planted(shop).await?);
    let last = audit::at_rest(shop.state(), requests, shop.planted(), false, REST).await?;
    violations.extend(last.complaints());
    Ok(violations)
}

/// One program does not end twice in a row: it would be started again later and later.
fn spread(points: Vec<Failpoint>) -> Vec<Failpoint> {
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut placed: Vec<(usize, Failpoint)> = points
        .into_iter()
        .map(|point| {
            let turn = turns.entry(point.program).or_default();
            *turn += 1;
            (*turn, point)
        })
        .collect();
    placed.sort_by_key(|(turn, _)| *turn);
    placed.into_iter().map(|(_, point)| point).collect()
}

fn order(plan: &Plan, life: Life, number: usize) -> Planned {
    let planned = super::plan::first(plan.seed, &plan.catalogue);
    Planned {
        user: format!("customer-{number}"),
        key: format!("systematic-{}-{number}", plan.seed),
        card: format!("{}_{}_{number}", life.card(), plan.seed),
        lines: if life == Life::OutOfStock { plan.too_much() } else { planned.lines },
        ..planned
    }
}

/// Lives one life to its end.
async fn live(
    shop: &Installation,
    customers: &Arc<Customers>,
    life: Life,
    planned: &Planned,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + HEALED;
    if life == Life::Poison {
        let fault = Fault { at_ms: 0, kind: Kind::Poison, target: "order".to_owned(), lasts_ms: 0 };
        kinds::inject(shop, &fault).await?;
    }
    let id = customers.placed(planned, deadline).await?;
    if life == Life::Cancelled {
        customers.cancelled(planned, &id, deadline).await?;
    }
    customers.ended(planned, &id, deadline).await.map(|_| ())
}
