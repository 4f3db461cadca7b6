//! Postgres: the pool, its health, migrations and the schema check.

mod pool;
mod schema;

pub use pool::{connect, is_transient, options, watch};
pub use schema::{migrate, require_schema};
