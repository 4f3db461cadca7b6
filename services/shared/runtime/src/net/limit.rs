use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::Throttle;

/// How many connections a port has at once, at most. Those above that wait where the system keeps
/// connections until somebody accepts them.
pub(super) struct Limit {
    port: &'static str,
    places: Arc<Semaphore>,
    full: Throttle,
}

/// Room for one connection.
pub(super) type Place = OwnedSemaphorePermit;

impl Limit {
    pub(super) fn new(port: &'static str, connections: usize) -> Self {
        metrics::describe_gauge!("portolan_connections_open", "Open connections to the port.");
        metrics::describe_counter!(
            "portolan_connections_full_total",
            "How often the port had as many connections as it may have, and accepted no more."
        );
        Self { port, places: Arc::new(Semaphore::new(connections)), full: Throttle::default() }
    }

    /// Waits until there is room.
    pub(super) async fn place(&self) -> Result<Place, AcquireError> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => return Ok(place),
            Err(TryAcquireError::NoPermits) => self.tell(),
            // Nobody closes it, and then the next line says so.
            Err(TryAcquireError::Closed) => {}
        }
        Arc::clone(&self.places).acquire_owned().await
    }

    fn tell(&self) {
        metrics::counter!("portolan_connections_full_total", "port" => self.port).increment(1);
        if let Some(left_out) = self.full.admit() {
            let port = self.port;
            tracing::warn!(port, left_out, "full, connections wait until others have ended");
        }
    }

    /// Counts a connection as open until this is dropped, which makes room for another.
    pub(super) fn taken(&self, place: Place) -> impl Send + use<> {
        let open = metrics::gauge!("portolan_connections_open", "port" => self.port);
        open.increment(1.0);
        Taken { open, _place: place }
    }
}

struct Taken {
    open: metrics::Gauge,
    _place: Place,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}
