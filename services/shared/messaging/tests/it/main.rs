//! Outbox, relay, inbox and dead letters against a real PostgreSQL and a real Kafka.

mod consumer;
mod relay;
mod support;
