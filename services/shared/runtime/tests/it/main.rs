//! The runtime from outside: processes, sockets and a real Postgres.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod database;
mod database_login;
mod database_pool;
mod database_tls;
mod deadline;
mod grpc;
mod http;
mod mesh;
mod process;
mod tls_calls;
mod tls_handshake;
mod tls_rotation;
mod tls_slow;
