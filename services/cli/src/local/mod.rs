//! The local app host: real PostgreSQL, Kafka and Redis and all services as processes of this
//! machine.
//!
//! One supervisor process owns them. It starts each in a process group of its own, restarts what
//! dies, and writes who they are (process id and start time) to the state directory, so that
//! whoever comes next can tell the processes it may stop from strangers that happen to have the
//! same number.
//!
//! With `--tls` everything but the gateway's own port is behind mutual TLS: the services' ports, the
//! databases, the broker (with access rules) and the Redis masters. It is what a cluster has, by
//! the same code, except that here the app host signs the certificates itself ([`certificates`])
//! and that who may do what comes from `deploy/edges.toml` ([`edges`]).

mod args;
mod certificates;
mod component;
mod detach;
mod edges;
mod kafka;
mod logs;
mod ports;
mod postgres;
mod probe;
mod process;
mod programs;
mod record;
mod redis;
mod services;
mod settings;
mod state;
mod status;
mod stop;
mod supervisor;
mod up;

pub(crate) use args::UpArgs;
pub(crate) use certificates::{LOAD, SEED};
pub(crate) use ports::{Ports, loopback};
pub(crate) use process::Identity;
pub(crate) use record::{HostRecord, Row, State as RowState};
pub(crate) use services::{AUDIENCE, ISSUER, Role, Service};
pub(crate) use state::{StateDir, random_bytes, write_private};
pub(crate) use status::status;
pub(crate) use stop::down;
pub(crate) use up::{StopSignals, up};
