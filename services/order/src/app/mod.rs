//! What the order service does: one use case a file, each owning its transaction.

mod batcher;
mod cancel;
mod decide;
mod error;
mod line;
mod place;
mod queries;
mod sweep;
mod watch;

pub use batcher::Batcher;
pub use cancel::cancel;
pub use decide::{Happening, Outcome, apply};
pub use error::Error;
pub use place::{PlaceOrder, Placed, Placement};
pub use queries::{Page, get, list, stats, timeline};
pub use sweep::spawn_sweeper;
pub use watch::Changes;
