use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use portolan_kernel::{Clock, IdGen, RandomIds, SystemClock};
use tokio::net::TcpListener;

use crate::{Readiness, Tasks, config::DEFAULT_MAX_CONNECTIONS, tls::Tls};

/// What a service gets from its process. Clones share everything.
#[derive(Clone, Debug)]
pub struct Context {
    /// The service's name, for instance `order`.
    pub service: &'static str,
    /// Where background work is started.
    pub tasks: Tasks,
    /// Where conditions of readiness are registered.
    pub readiness: Readiness,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdGen>,
    /// The bound service port until somebody serves it.
    pub listener: Arc<Mutex<Option<TcpListener>>>,
    /// The mesh, if this process is part of one: its own identity and whom it trusts.
    pub tls: Option<Tls>,
    /// How long a connection to the service port may live; zero is for ever.
    pub max_connection_age: Duration,
    /// How many connections the service port has at once, at most.
    pub max_connections: usize,
    local_addr: Option<SocketAddr>,
}

impl Context {
    /// A context with the machine's clock and random ids, serving on `listener`.
    pub fn new(service: &'static str, listener: Option<TcpListener>) -> Self {
        Self {
            service,
            tasks: Tasks::new(),
            readiness: Readiness::new(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds(SystemClock)),
            local_addr: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            listener: Arc::new(Mutex::new(listener)),
            tls: None,
            max_connection_age: Duration::ZERO,
            max_connections: DEFAULT_MAX_CONNECTIONS,
        }
    }

    /// The same with another clock and other ids: for tests.
    #[must_use]
    pub fn with(self, clock: Arc<dyn Clock>, ids: Arc<dyn IdGen>) -> Self {
        Self { clock, ids, ..self }
    }

    /// The same as a member of the mesh.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// The same with a limit for the life of connections to the service port; zero is none.
    #[must_use]
    pub fn with_max_connection_age(self, max_connection_age: Duration) -> Self {
        Self { max_connection_age, ..self }
    }

    /// The same with another limit for the number of connections to the service port.
    #[must_use]
    pub fn with_max_connections(self, max_connections: usize) -> Self {
        Self { max_connections, ..self }
    }

    /// Starts the tasks that follow the files of [`Context::tls`], if there is an identity.
    pub fn keep_identity_current(&self) {
        if let Some(tls) = &self.tls {
            tls.keep_current(&self.tasks);
        }
    }

    /// The service port, which can be taken once.
    ///
    /// # Errors
    /// It was taken before, or there never was one.
    pub fn take_listener(&self) -> anyhow::Result<TcpListener> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.take().context("the service port is already being served")
    }

    /// The address of the service port: with the real port, if the configured one was 0.
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }
}
