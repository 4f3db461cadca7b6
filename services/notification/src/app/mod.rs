//! The use cases, one per file.

mod deliver;
mod error;
mod list_notifications;
mod record_endings;

pub use deliver::Delivery;
pub(crate) use deliver::wire_kind;
pub use error::Error;
pub use list_notifications::{Shown, Status, list_notifications};
pub use record_endings::{Ended, Mode, record_endings};
