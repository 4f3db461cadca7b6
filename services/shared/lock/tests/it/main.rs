//! The lock against three real Redis servers.
#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

mod contention;
mod faults;
mod holding;
mod support;
mod tls;
