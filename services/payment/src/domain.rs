//! What a payment is and how it changes: pure, no I/O.
//!
//! A cancellation of an order whose payment is captured, and an approval of a payment that is
//! declined or was cancelled without a call, could be ignored like what merely comes late; they are
//! impossible on purpose, so that somebody is alerted, because money and order then disagree.

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
