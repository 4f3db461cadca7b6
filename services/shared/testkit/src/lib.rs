//! What tests need besides the thing they test: a database for each test, a set of topics for each
//! test, time and ids that can be foretold, and waiting without sleeping.
//!
//! The servers are named by `PORTOLAN_TEST_DATABASE_URL` (of a role that may create databases) and
//! `PORTOLAN_TEST_KAFKA`; `make test` starts both. Tests about certificates start a Kafka of their own, tests of the lock their
//! Redis servers. Nothing here returns errors: it fails the test.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "what fails here fails the test"
)]

mod certificates;
mod clock;
mod cloud_events;
mod context;
mod database;
mod eventually;
mod ids;
mod kafka;
mod mesh;
mod ports;
mod redis;
mod tls_kafka;

pub use certificates::TestCa;
pub use clock::ManualClock;
pub use cloud_events::{cloud_event, cloud_events};
pub use context::context;
pub use database::TestDb;
pub use eventually::{PATIENCE, eventually};
pub use ids::SeqIds;
pub use kafka::{TestKafka, TestRecord};
pub use mesh::TestMesh;
pub use ports::free_port;
pub use redis::TestRedis;
pub use tls_kafka::TlsKafka;

#[expect(clippy::disallowed_methods, reason = "the test servers are named by the environment")]
fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: `make test` starts the test servers and sets it")
    })
}
