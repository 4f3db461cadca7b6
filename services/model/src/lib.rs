//! The saga without its machinery: the state machines of order, inventory, payment, notification
//! and provider, exactly as the services run them, joined by channels that deliver late, again and
//! across topics in any order, and by a worker whose calls may be lost on either way.
//!
//! What is left out is what the machinery must give: a transaction is one step, a key's records of
//! one topic arrive first in their order, and what can be delivered is delivered in the end. There
//! is deliberately no inbox: the machines have to bear every duplicate themselves.
//!
//! [`World::actions`] says what may happen next and [`World::act`] does it. A machine that calls an
//! event impossible has found a hole in the protocol, and so has [`World::check`] when something
//! that must always hold does not. [`explore`] goes through all schedules; a random one is a list of
//! numbers that say which action comes next.

pub mod channel;
mod check;
pub mod explore;
mod provider;
mod saga;
mod world;

pub use provider::Flight;
pub use saga::{Budget, Saga};
pub use world::{Action, World};

/// What must never happen, with what happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);
