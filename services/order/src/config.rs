use std::time::Duration;

use portolan_messaging::KafkaConfig;
use portolan_runtime::{DatabaseConfig, ServerConfig, TelemetryConfig, Validate, config::Invalid};
use serde::Deserialize;

/// The order service's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Ports and shutdown.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The order database.
    pub database: DatabaseConfig,
    /// The broker.
    pub kafka: KafkaConfig,
    /// Where the inventory service's gRPC is, for instance `http://127.0.0.1:8442`.
    pub inventory_url: String,
    /// What orders may do.
    #[serde(default)]
    pub orders: OrdersConfig,
}

/// Deadlines and limits of orders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrdersConfig {
    /// How long an order may stay undecided, in seconds.
    pub deadline_secs: u32,
    /// How many undecided or confirmed orders a customer may have; 0 for any number.
    pub open_order_limit: i32,
    /// How often passed deadlines are looked for, in milliseconds.
    pub sweep_interval_ms: u64,
    /// How long a customer's lock is held at most, in milliseconds.
    pub lock_ttl_ms: u64,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        Self {
            deadline_secs: 900,
            open_order_limit: 0,
            sweep_interval_ms: 1_000,
            lock_ttl_ms: 3_000,
        }
    }
}

impl OrdersConfig {
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(u64::from(self.deadline_secs))
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        if self.orders.deadline_secs == 0 {
            return Err(Invalid::new("orders.deadline_secs", "must be at least 1"));
        }
        if self.orders.open_order_limit < 0 {
            return Err(Invalid::new("orders.open_order_limit", "must not be negative"));
        }
        if self.orders.sweep_interval_ms == 0 {
            return Err(Invalid::new("orders.sweep_interval_ms", "must be at least 1"));
        }
        if self.orders.lock_ttl_ms < 100 {
            return Err(Invalid::new("orders.lock_ttl_ms", "must be at least 100"));
        }
        self.database.validate()?;
        self.kafka.validate()?;
        portolan_runtime::grpc::check_url(&self.inventory_url)
            .map_err(|error| Invalid::new("inventory_url", error.to_string()))
    }
}
