//! What each kind of fault does. Whoever begins one ends it, too: when [`inject`] returns, it is
//! over.

mod process;

use super::{
    installation::Installation,
    schedule::{Fault, Kind},
};

/// Makes one thing go wrong, for as long as it is to last.
///
/// # Errors
/// It could not be done: then the run says nothing about it.
pub(super) async fn inject(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    match fault.kind {
        Kind::Kill => process::kill(shop, fault).await,
        Kind::Pause | Kind::LongPause => process::pause(shop, fault).await,
    }
}
