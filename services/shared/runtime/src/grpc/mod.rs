//! gRPC edges: serving, calling, and errors on the way in both directions.

mod balance;
mod client;
mod guard;
mod instance;
mod remote;
mod retry;
mod server;
mod status;

pub use client::{Client, channel, check_url, deadline};
pub use guard::{BreakerConfig, Guarded};
pub use remote::Remote;
pub use retry::{RetryConfig, Retrying};
pub use server::serve;
pub use status::status;

/// The `domain` of every `google.rpc.ErrorInfo` that we send.
pub const ERROR_DOMAIN: &str = "portolan";
