use std::time::Duration;

use portolan_runtime::{
    Context, DatabaseConfig, Invalid, ServerConfig, Service, TelemetryConfig, Validate, database,
    http,
};
use serde::Deserialize;
use sqlx::migrate::Migrator;

use super::http::{Simulator, router};

/// The provider's tables, in a database of their own.
pub static MIGRATOR: Migrator = sqlx::migrate!("./psp-migrations");

/// The configuration of `portolan-psp`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its own database.
    pub database: DatabaseConfig,
    /// How long `tok_late` takes to answer, in milliseconds: longer than its caller waits.
    #[serde(default = "default_late_ms")]
    pub late_ms: u64,
}

const fn default_late_ms() -> u64 {
    3_000
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.database.validate()
    }
}

/// The process `portolan-psp`.
#[derive(Clone, Copy, Debug)]
pub struct PspService;

impl Service for PspService {
    const NAME: &'static str = "psp";
    type Config = Config;

    fn server(config: &Config) -> &ServerConfig {
        &config.server
    }

    fn telemetry(config: &Config) -> &TelemetryConfig {
        &config.telemetry
    }

    async fn migrate(config: Config) -> anyhow::Result<()> {
        let pool = database::connect(&config.database).await?;
        database::migrate(&pool, &[&MIGRATOR]).await
    }

    async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
        let pool = database::connect(&config.database).await?;
        database::require_schema(&pool, &[&MIGRATOR]).await?;
        database::watch(&ctx, &pool).await;
        let simulator = Simulator::new(ctx.clone(), pool, Duration::from_millis(config.late_ms));
        http::serve(&ctx, router(simulator)).await
    }
}
