//! The use cases. Each owns its transaction, except [`hear`], which is part of the consumer's.

mod hear;
mod settle;
mod show;

pub use hear::{Heard, NotHeard, hear};
pub use settle::{Answered, Settlement};
pub use show::{NotShown, show};
