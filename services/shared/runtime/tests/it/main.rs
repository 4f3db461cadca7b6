//! The runtime from outside: processes, sockets and a real Postgres.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod database;
mod grpc;
mod http;
mod process;
