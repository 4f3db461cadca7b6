//! Ring 1: what must hold of the chart whatever cluster it meets. `helm/tests/README.md` says which
//! trap each test is for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod agents;
mod budget;
mod callers;
mod config;
mod documents;
mod hooks;
mod names;
mod negatives;
mod pods;
mod ports;
mod render;
mod scaling;
mod servers;
mod support;
mod upgrade;
