//! What each kind of fault does. Whoever begins one ends it, too: when [`inject`] returns, it is
//! over.

mod clock;
pub(super) mod disk;
mod groups;
mod network;
mod postgres;
mod process;
mod records;
mod redis;
mod topics;

use super::{
    installation::Installation,
    proxy::Mode,
    schedule::{Fault, Kind},
};

/// Undoes what a fault may have left behind that met another one.
///
/// # Errors
/// It cannot be undone.
pub(super) async fn heal(shop: &Installation) -> anyhow::Result<()> {
    shop.clear_networks();
    shop.thaw()?;
    postgres::open_all(shop).await
}

/// Makes one thing go wrong, for as long as it is to last.
///
/// # Errors
/// It could not be done: then the run says nothing about it.
pub(super) async fn inject(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    match fault.kind {
        Kind::Kill => process::kill(shop, fault).await,
        Kind::Pause | Kind::LongPause | Kind::BrokerPause => process::pause(shop, fault).await,
        Kind::PostgresRestart => postgres::restart(shop, fault).await,
        Kind::ConnectionsCut => postgres::cut(shop, fault).await,
        Kind::DiskFull => disk::fill(shop, fault).await,
        Kind::BrokerRestart => process::restart_broker(shop, fault).await,
        Kind::RedisDown => redis::down(shop, fault).await,
        Kind::RedisFlush => redis::flush(shop, fault).await,
        Kind::RedisPause => redis::pause(shop, fault).await,
        Kind::Duplicates => topics::duplicate(shop, fault).await,
        Kind::Reordering => topics::reorder(shop).await,
        Kind::Poison => topics::poison(shop, fault).await,
        Kind::GroupReset => groups::reset(shop, fault).await,
        Kind::Rebalances => groups::rebalance(shop, fault).await,
        Kind::ClockStep => clock::step(shop, fault).await,
        Kind::NetworkSlow => network::disturb(shop, fault, Mode::Slow(network::SLOW)).await,
        Kind::NetworkReset => network::disturb(shop, fault, Mode::Reset).await,
        Kind::NetworkSilent => network::disturb(shop, fault, Mode::Silent).await,
    }
}
