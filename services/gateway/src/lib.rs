//! The gateway: Portolan's public HTTP interface, JSON in front of the gRPC services.
//!
//! It owns no data. What holds for every request:
//!
//! - Every answer that is an error is a problem document (RFC 9457) with a stable `type` and
//!   `code` and the trace id, whoever made it: a handler, the router, a limit, a timeout, a panic.
//! - A request that is wrong is refused here, naming the field, and causes no call.
//! - Identity comes from the verified token alone ([`portolan_auth`]); the user id that the other
//!   services see is the token's subject. Operators read any order, customers only their own.
//! - Prices, totals and states come from the services; nothing the client says about them counts.
//! - Who asks too often is told when to come back: `rate` counts in this process, `quota` for all
//!   gateways together.
//! - Tokens, passwords, card tokens and bodies are never logged and never repeated in an answer.
//!
//! `edge` is what every request passes, `extract` reads and checks requests, `api` has one module
//! for each resource, `problem` and `remote` say what went wrong. The description of the interface
//! ([`openapi`]) is generated from the handlers.

mod admission;
mod api;
mod app;
mod browsers;
mod config;
mod edge;
mod extract;
mod health;
mod login;
pub mod openapi;
mod problem;
mod quota;
mod rate;
mod remote;
mod router;

use anyhow::Context as _;
use portolan_runtime::{Context, ServerConfig, Service, TelemetryConfig, TlsConfig};

pub use app::App;
pub use config::{AuthConfig, BrowsersConfig, Config, DevIssuerConfig, LimitsConfig, UserConfig};
pub use quota::QuotaConfig;
pub use rate::{Rate, RatesConfig};
pub use router::router;

/// The gateway as a process.
#[derive(Debug)]
pub struct Gateway;

impl Service for Gateway {
    const NAME: &'static str = "gateway";
    type Config = Config;

    fn server(config: &Config) -> &ServerConfig {
        &config.server
    }

    fn telemetry(config: &Config) -> &TelemetryConfig {
        &config.telemetry
    }

    fn tls(config: &Config) -> Option<&TlsConfig> {
        config.tls.as_ref()
    }

    /// There is no database.
    async fn migrate(_config: Config, _ctx: Context) -> anyhow::Result<()> {
        Ok(())
    }

    async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
        admission::describe_metrics();
        edge::describe_metrics();
        rate::describe_metrics();
        quota::describe_metrics();
        let app = App::new(&config, &ctx).context("cannot start")?;
        health::watch(&ctx, &config)?;
        portolan_runtime::http::serve(&ctx, router(app)).await
    }
}
