//! What every other crate may rely on: ids, money, time and randomness as inputs, and the one
//! vocabulary of error codes. No I/O and no async runtime.

mod clock;
mod error;
mod id;
mod money;

pub use clock::{Clock, SystemClock};
pub use error::{Coded, ErrorCode, FieldViolation};
pub use id::{IdGen, OrderId, ParseIdError, RandomIds};
pub use money::{Currency, Money, MoneyError};
