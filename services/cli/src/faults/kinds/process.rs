//! Processes that die, and processes that stand still.

use std::time::Duration;

use anyhow::bail;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::super::{installation::Installation, schedule::Fault};

/// How soon the supervisor has to have noticed a death.
const NOTICED: Duration = Duration::from_secs(5);
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
    let process = shop.process(name).await?;
    let restarts = shop.row(name)?.restarts;
    process.signal_group(signal);
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
