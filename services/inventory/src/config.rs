use portolan_messaging::KafkaConfig;
use portolan_runtime::{
    Validate,
    config::{DatabaseConfig, Invalid, ServerConfig, TelemetryConfig},
};
use serde::Deserialize;

/// The service's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub server: ServerConfig,
    /// Logs, traces and metrics.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The service's own database.
    pub database: DatabaseConfig,
    /// The brokers and the batches.
    pub kafka: KafkaConfig,
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        self.server.validate()?;
        self.telemetry.validate()?;
        self.database.validate()?;
        self.kafka.validate()
    }
}
