use portolan_messaging::{KafkaConfig, ops};
use portolan_runtime::{
    Callers, TlsConfig, Validate,
    config::{DatabaseConfig, Invalid, ServerConfig, TelemetryConfig},
};
use serde::Deserialize;

use crate::grpc::METHODS;

/// The service's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub server: ServerConfig,
    /// Logs, traces and metrics.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its identity; with it the service port demands one of callers.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Who may call which method.
    #[serde(default)]
    pub callers: Callers,
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
        self.callers.check(&[METHODS.as_slice(), &ops::METHODS].concat())?;
        self.kafka.validate()
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::config::from_toml;

    use super::*;

    fn fault(section: &str) -> String {
        let text = format!(
            "[server]
             listen = '127.0.0.1:1'
             admin_listen = '127.0.0.1:2'
             [database]
             url = 'postgres://localhost/test'
             [kafka]
             brokers = 'localhost:9092'
             {section}"
        );
        from_toml::<Config>(&text).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn a_caller_of_a_method_that_does_not_exist_is_named() {
        let callers = |method: &str| format!("[callers]\ngateway = ['*']\nload = ['{method}']");
        assert_eq!(fault(&callers(METHODS[0])), "");
        for typo in
            ["portolan.inventory.v1.InventoryService/Quotes", "portolan.inventory.v1.Service/Get"]
        {
            let line = fault(&callers(typo));
            assert!(line.contains("callers.load") && line.contains(typo), "{line}");
        }
    }
}
