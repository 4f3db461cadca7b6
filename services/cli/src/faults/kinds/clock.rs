//! Clocks that jump, and jump back.

use anyhow::Context as _;
use tokio::time::sleep;

use super::super::{installation::Installation, schedule::Fault};

/// Moves a process's clock and, after a while, moves it back. The target is `process:+seconds`.
pub(super) async fn step(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let (name, seconds) = fault.target.split_once(':').context("process:seconds is wanted")?;
    let process = shop.process(name).await?;
    let _wrong = shop.clocks()?.step(process.pid, seconds.parse()?)?;
    sleep(fault.lasts()).await;
    Ok(())
}
