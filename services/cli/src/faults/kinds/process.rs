//! Processes that die, and processes that stand still.

use std::time::Duration;

use anyhow::bail;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::super::{installation::Installation, schedule::Fault};
use crate::local::Identity;

/// How soon a process has to be dead and the supervisor to know.
const NOTICED: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Kills it, and makes sure that it is started again.
pub(super) async fn kill(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    signal_and_await(shop, &fault.target, Signal::SIGKILL).await
}

/// Sends a deadly signal and waits until the supervisor knows of the death.
pub(super) async fn signal_and_await(
    shop: &Installation,
    name: &str,
    signal: Signal,
) -> anyhow::Result<()> {
    await_restart(shop, name, |process| process.signal_group(signal)).await
}

/// Ends a process in some way and waits until the supervisor knows of the death.
pub(super) async fn await_restart(
    shop: &Installation,
    name: &str,
    end: impl Fn(&Identity),
) -> anyhow::Result<()> {
    let process = shop.process(name).await?;
    let restarts = shop.row(name)?.restarts;
    end(&process);
    let deadline = Instant::now() + NOTICED;
    while shop.row(name)?.restarts == restarts {
        if Instant::now() >= deadline {
            bail!("the supervisor does not notice that {name} ended");
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Stops it and lets it go on.
pub(super) async fn pause(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let process = shop.process(&fault.target).await?;
    process.signal_group(Signal::SIGSTOP);
    sleep(fault.lasts()).await;
    process.signal_group(Signal::SIGCONT);
    Ok(())
}

/// Kills the broker, or has it stop in order; the supervisor starts it again.
pub(super) async fn restart_broker(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let signal = if fault.target == "kill" { Signal::SIGKILL } else { Signal::SIGTERM };
    signal_and_await(shop, "kafka", signal).await
}
