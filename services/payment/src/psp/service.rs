use std::{path::PathBuf, time::Duration};

use portolan_runtime::{
    Callers, Context, DatabaseConfig, Invalid, ServerConfig, Service, TelemetryConfig, TlsConfig,
    Validate, database,
    files::{self, Watched},
    http,
};
use serde::Deserialize;
use sqlx::migrate::Migrator;

use super::http::{PATHS, Simulator, router};
use crate::api_keys::ApiKeys;

/// The provider's tables, in a database of their own. What a later version has added is left alone,
/// so that a deployment can be rolled back.
pub static MIGRATOR: Migrator =
    Migrator { ignore_missing: true, ..sqlx::migrate!("./psp-migrations") };

/// The configuration of `portolan-psp`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its identity; with it the port demands one of callers.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Who may call: as paths here depend on the key, `["*"]`.
    #[serde(default)]
    pub callers: Callers,
    /// A JSON file with the keys of which callers must show one: see [`ApiKeys`]. Read again when
    /// it changes. Without it none is asked for.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// Its own database.
    pub database: DatabaseConfig,
    /// How long `tok_late` takes to answer, in milliseconds: longer than its caller waits.
    #[serde(default = "default_late_ms")]
    pub late_ms: u64,
}

const fn default_late_ms() -> u64 {
    3_000
}

impl Config {
    /// How often files are read again.
    fn poll(&self) -> Duration {
        self.tls.as_ref().map_or(files::POLL, TlsConfig::poll)
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.callers.check(&PATHS)?;
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

    fn tls(config: &Config) -> Option<&TlsConfig> {
        config.tls.as_ref()
    }

    async fn migrate(config: Config, ctx: Context) -> anyhow::Result<()> {
        let pool = database::connect(&ctx, &config.database).await?;
        database::migrate(&pool, &[&MIGRATOR]).await
    }

    async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
        let pool = database::open(&ctx, &config.database, &[&MIGRATOR]).await?;
        let simulator = Simulator::new(ctx.clone(), pool, Duration::from_millis(config.late_ms));
        let simulator = match &config.api_key_file {
            Some(file) => {
                let keys = Watched::load("api_key_file", file, ApiKeys::parse)?;
                keys.keep_current(&ctx.tasks, config.poll());
                simulator.demanding(keys.subscribe())
            }
            None => simulator,
        };
        http::serve_mesh(&ctx, router(simulator), &config.callers).await
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::config::from_toml;

    use super::*;

    #[test]
    fn a_caller_of_a_path_that_does_not_exist_is_named() {
        let load = |path: &str| {
            let text = format!(
                "[server]
                 listen = '127.0.0.1:1'
                 admin_listen = '127.0.0.1:2'
                 [database]
                 url = 'postgres://localhost/test'
                 [callers]
                 payment = ['*']
                 load = ['{path}']"
            );
            from_toml::<Config>(&text).map(drop)
        };
        assert!(PATHS.iter().all(|path| load(path).is_ok()));
        let line = load("v1/capture").unwrap_err().to_string();
        assert!(line.contains("callers.load") && line.contains("v1/capture"), "{line}");
    }
}
