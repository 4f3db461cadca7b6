//! The payment service, and the simulator of the payment provider that it talks to.
//!
//! # What it owns
//!
//! The one payment of each order (`payment`) and what it did with money (`payment_ledger`).
//!
//! # Events
//!
//! It hears `inventory.reserved`, `order.confirmed` and `order.cancelled`, and tells
//! `payment.authorized`, `payment.declined`, `payment.captured`, `payment.capture_failed` and
//! `payment.voided`: what the provider did, never what the service intends.
//!
//! # What holds
//!
//! - The provider is never called inside a database transaction, and always with the same
//!   idempotency key for the same step of the same order.
//! - An attempt is counted and committed before the call. `attempt = 0` therefore proves that the
//!   provider never heard of the payment, and a cancellation needs no call then. Otherwise only a
//!   void by the authorisation's key ends it, whether or not the authorisation ever arrived.
//! - Unknown is not failed: silence leaves the payment where it is, to be asked about again.
//! - The order alone decides. The service never gives a payment up on its own account; it merely
//!   does not begin one whose time is up.
//! - A cancelled payment is never captured, and none is captured twice.
//! - The card token is kept until the authorisation is decided, and shown nowhere.
//!
//! `domain` decides and is pure; `app` has the use cases; `store` has the SQL; `consumer`, `grpc`,
//! `worker` and `provider` are the edges; `service` wires them.

mod api_keys;
pub mod app;
pub mod config;
pub mod consumer;
pub mod domain;
pub mod events;
pub mod grpc;
pub mod provider;
pub mod psp;
mod service;
pub mod store;
pub mod worker;

pub use api_keys::{ApiKeys, ApiKeysError};
pub use config::{Config, ProviderConfig, ProviderTls};
pub use service::{MIGRATOR, PaymentService};
