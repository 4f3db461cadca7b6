//! How services exchange events: a transactional outbox and its relay, an inbox and its batched
//! consumer, dead letters, and the CloudEvents envelope between them.
//!
//! What holds, whatever is killed, cut off or slow:
//!
//! * An event is published if and only if the transaction that caused it committed
//!   ([`outbox`], [`Relay`]). It may be published more than once; the first occurrences of one
//!   key's events are in the order of their transactions.
//! * A record is applied at most once per consumer group ([`Messaging::consume`]): the inbox row, the
//!   state change and the events it causes are one transaction, and the offset advances only after
//!   its commit, and only contiguously.
//! * A record that can never be applied is found by bisection and set aside with its reason in one
//!   transaction; the later events of its key wait behind it in order.
//!
//! * Certificates may be replaced at any time: each client is made anew between two batches or
//!   passes, which changes nothing of the above ([`Kafka`]).
//!
//! The honest name of this is *effectively once*: at-least-once delivery, with duplicates removed
//! in the transaction that has the effect.

mod batch;
mod broker;
mod client;
mod config;
mod consumer;
mod dead_letter;
mod envelope;
mod error;
mod handler;
mod inbox;
mod kafka;
pub mod ops;
pub mod outbox;
mod partitions;
mod relay;
mod start;
pub mod topics;

pub use config::KafkaConfig;
pub use envelope::Record;
pub use error::HandlerError;
pub use handler::{Group, Handler};
pub use kafka::Kafka;
pub use outbox::Outgoing;
pub use relay::{Relay, Waker};
pub use start::{Messaging, migrate, open};

/// The tables this crate needs in every service's database, with a migration table of their own.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
