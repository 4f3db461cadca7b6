//! Outbox, relay, inbox and dead letters against a real PostgreSQL and a real Kafka.

mod consumer;
mod dead_letters;
mod relay;
mod renewal;
mod rights;
mod roles;
mod start;
mod support;
