//! Everything a Portolan process does that is not its business: configuration, telemetry, the
//! lifecycle of tasks, the admin port, and the edges of gRPC, HTTP and Postgres.
//!
//! A service implements [`Service`] and its `main` calls [`main`]. What holds for each of them:
//!
//! - A wrong configuration, a taken port and a failing start are one line on stderr and a
//!   non-zero exit; nothing listens half-started.
//! - Every task is named, tracked and drained. A task that dies takes the process with it, since a
//!   service that lost its consumer but still answers is worse than one that restarts.
//! - On SIGTERM: unready, drain delay, soft token, grace, hard token, flush of the telemetry.

mod admin;
mod callers;
pub mod config;
mod context;
#[cfg(feature = "postgres")]
pub mod database;
pub mod deadline;
mod error;
/// Where a test can have a process end.
pub mod failpoint;
pub mod files;
pub mod grpc;
pub mod http;
mod limit;
mod listen;
pub mod metrics;
mod net;
mod process;
mod readiness;
mod tasks;
pub mod telemetry;
pub mod tls;

pub use admin::router as admin_router;
pub use callers::Callers;
#[cfg(feature = "postgres")]
pub use config::DatabaseConfig;
pub use config::{ConfigError, Invalid, LogFormat, ServerConfig, TelemetryConfig, Validate};
pub use context::Context;
pub use error::one_line;
pub use http::client as http_client;
pub use limit::{Answer, Limit, Place};
pub use process::{Service, install_crypto, main, run};
pub use readiness::{Check, CheckReport, Readiness, Report, Status};
pub use tasks::{Drained, Tasks};
pub use tls::{PeerIdentity, Tls, TlsConfig};
