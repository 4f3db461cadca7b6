//! The whole shop as it is deployed: every service is its real binary, with databases and topics
//! of its own, and is spoken to over HTTP. The tests kill, stop and starve these processes, and
//! each ends with `portolan audit` over everything they left behind.
//!
//! The binaries must have been built before (`cargo build --workspace --bins`); `make test` does
//! that and starts the servers. At most two shops run at once in one test binary: each is six
//! processes or more.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "what fails here fails the test"
)]

mod audit;
mod broker;
mod collector;
mod config;
mod customer;
mod groups;
mod hurt;
mod logins;
mod processes;
mod program;
mod scratch;
mod shop;

pub use audit::{Audit, audit, finished};
pub use broker::Broker;
pub use collector::{Collector, Span};
pub use customer::{Answer, Customer, Line, new_key};
pub use program::{Program, Run, program};
pub use scratch::Scratch;
pub use shop::{Options, Service, Shop};
