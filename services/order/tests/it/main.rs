//! The order service as a whole, against a real PostgreSQL, a real Kafka and real Redis masters. Inventory's and
//! payment's events are written to their topics by hand.

mod asking;
mod deciding;
mod locking;
mod placing;
mod support;
mod upgrade;
mod write_skew;
