//! The order service as a whole, against a real PostgreSQL and a real Kafka. Inventory's and
//! payment's events are written to their topics by hand.

mod deciding;
mod placing;
mod support;
mod upgrade;
