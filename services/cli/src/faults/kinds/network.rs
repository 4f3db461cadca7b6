//! A bad network between the services and what they use.

use std::time::Duration;

use tokio::time::sleep;

use super::super::{installation::Installation, proxy::Mode, schedule::Fault};

/// How much later everything arrives, each way.
pub(super) const SLOW: Duration = Duration::from_millis(60);

pub(super) async fn disturb(shop: &Installation, fault: &Fault, mode: Mode) -> anyhow::Result<()> {
    let network = shop.network(&fault.target)?;
    network.set(mode);
    sleep(fault.lasts()).await;
    network.set(Mode::Clear);
    Ok(())
}
