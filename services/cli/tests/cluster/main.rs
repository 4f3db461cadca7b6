//! The commands that set up a cluster, as programs, against an API server that is a map in memory.
//! Vault and PostgreSQL are real where they matter: those tests need a `vault` program on the path
//! (or `PORTOLAN_VAULT`) and are ignored unless asked for with `--ignored`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod api;
mod bootstrap;
mod configure;
mod operator;
mod postgres;
mod program;
mod vault;
