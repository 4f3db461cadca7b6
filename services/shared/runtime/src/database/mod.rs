//! Postgres: the pool and its login, its health, migrations and the schema check.

mod access;
mod connect;
mod in_time;
mod limited;
mod patience;
mod release;
mod rotate;
mod schema;
mod transient;
mod watch;

pub(crate) use access::is_url;
pub use connect::{connect, open};
pub use in_time::{at_most, in_time};
pub use limited::{Held, acquire, begin};
pub use schema::{migrate, require_schema};
pub use transient::is_transient;
pub use watch::watch;
use watch::watch_with;
