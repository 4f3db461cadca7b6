//! The rules of notifying, without I/O: what an order's end asks for, what becomes of an attempt,
//! and what a message says.

mod decision;
mod delivery;
mod letter;

pub use decision::{Decision, Kind, decide};
pub use delivery::{Next, RetryPolicy, Verdict, next};
pub use letter::{Ending, Letter, letter, message_id, recipient};
