//! The inventory service against a real PostgreSQL and a real Kafka.

mod catalogue;
mod orders;
mod replicas;
mod schema;
mod support;
