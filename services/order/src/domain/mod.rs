//! What an order is and how it may change. Pure: no I/O, no clock, no randomness.

mod basket;
mod machine;

pub use basket::{Basket, BasketError, MAX_LINES, MAX_QUANTITY, PricedLine};
pub use machine::{Effect, Event, Order, Reason, State, Step, step};
