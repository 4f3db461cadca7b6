//! Logs, spans and the W3C trace context.
//!
//! A span provider exists in every process, so trace ids exist and travel even when nothing
//! collects them.

mod init;
mod trace_context;

pub use init::{Telemetry, init, log_panics};
pub use trace_context::TraceContext;
