//! What runs inside a cluster: the hooks, Jobs and sidecars of the chart, and its tests.

pub(crate) mod bootstrap;
pub(crate) mod config;
mod generate;
mod https;
pub(crate) mod kafka_configure;
mod kubernetes;
mod patience;
pub(crate) mod probe;
mod settings;
pub(crate) mod smoke;
mod vault;
pub(crate) mod vault_configure;
pub(crate) mod vault_operator;
