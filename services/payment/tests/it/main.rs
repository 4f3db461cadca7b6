//! The payment service and the provider simulator against real databases and Kafka.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod interleavings;
mod jobs;
mod keys;
mod mesh;
mod outages;
mod payments;
mod psp;
mod replicas;
mod support;
