use std::time::Duration;

use portolan_lock::LockConfig;
use portolan_messaging::{KafkaConfig, ops};
use portolan_runtime::{
    Callers, DatabaseConfig, ServerConfig, TelemetryConfig, TlsConfig, Validate,
    config::Invalid,
    grpc::{self, BreakerConfig},
};
use serde::Deserialize;

use crate::grpc::METHODS;

/// The order service's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Ports and shutdown.
    pub server: ServerConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Its identity; with it the service port demands one of callers, and calls to `https` URLs show
    /// it.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Who may call which method.
    #[serde(default)]
    pub callers: Callers,
    /// The order database.
    pub database: DatabaseConfig,
    /// The broker.
    pub kafka: KafkaConfig,
    /// The lock of a customer; without it the row lock of the customer's guard serialises alone.
    #[serde(default)]
    pub lock: Option<LockConfig>,
    /// Where the inventory service's gRPC is, for instance `http://127.0.0.1:8442`; `https` with
    /// `[tls]`.
    pub inventory_url: String,
    /// When inventory is left alone.
    #[serde(default)]
    pub breaker: BreakerConfig,
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
    /// How many prices are asked for at once; more placements are told to come back. It must be
    /// less than the calls that a gateway makes at once, so that a hung inventory leaves some of
    /// them to those who only read.
    pub concurrent_quotes: usize,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        Self {
            deadline_secs: 900,
            open_order_limit: 0,
            sweep_interval_ms: 1_000,
            concurrent_quotes: 64,
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
        let some = self.orders.concurrent_quotes > 0;
        Invalid::unless(some, "orders.concurrent_quotes", "must be at least 1")?;
        self.breaker.validate()?;
        self.callers.check(&[METHODS.as_slice(), &ops::METHODS].concat())?;
        self.database.validate()?;
        self.kafka.validate()?;
        if let Some(lock) = &self.lock {
            lock.validate()?;
        }
        grpc::check_url(&self.inventory_url)
            .map_err(|error| Invalid::new("inventory_url", error.to_string()))?;
        let secured = self.tls.is_some() || !self.inventory_url.starts_with("https:");
        Invalid::unless(secured, "inventory_url", "https:// needs the section [tls]")
    }
}

#[cfg(test)]
mod tests {
    use portolan_runtime::config::from_toml;

    use super::*;

    fn fault(url: &str, section: &str) -> String {
        let text = format!(
            "inventory_url = '{url}'
             [server]
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
        assert_eq!(fault("http://localhost:1", &callers(METHODS[0])), "");
        for typo in ["portolan.order.v1.OrderService/PlaceOrders", "portolan.order.v1.Service/Get"]
        {
            let line = fault("http://localhost:1", &callers(typo));
            assert!(line.contains("callers.load") && line.contains(typo), "{line}");
        }
    }

    #[test]
    fn a_secured_peer_needs_an_identity() {
        assert!(fault("https://inventory:8443", "").contains("inventory_url"));
        let tls = "[tls]\nidentity = 'a'\nroots = 'b'\ntrust_domain = 'c.d'\nnamespace = 'e'";
        assert_eq!(fault("https://inventory:8443", tls), "");
    }
}
