//! What a payment is and how it changes: pure, no I/O.

mod backoff;
mod machine;
mod payment;
mod status;
mod step;
mod token;

pub use backoff::Backoff;
pub use machine::{Change, Decision, Event, Impossible, Ledger, Position, decide};
pub use payment::{Answer, Call, Effect, Fact, Intent, Payment};
pub use status::{Status, UnknownStatus};
pub use step::Step;
pub use token::CardToken;
