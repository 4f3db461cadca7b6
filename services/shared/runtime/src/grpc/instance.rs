use std::{
    error::Error as _,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex as Lock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    client::conn::http2::{Builder, SendRequest},
    rt::Executor as _,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::Mutex, time::Instant};
use tonic::{Status, body::Body, codegen::Bytes};

use crate::{net::Dialer, one_line};

const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an instance that could not be reached is avoided.
const REST: Duration = Duration::from_secs(1);

type Sender = SendRequest<Full<Bytes>>;

/// One address of a service, with at most one connection to it.
pub(super) struct Instance {
    address: SocketAddr,
    connection: Arc<Mutex<Option<Sender>>>,
    failure: Lock<Option<(Instant, Status)>>,
    calls: Arc<AtomicUsize>,
}

/// One message, complete, so that it can be sent again.
pub(super) type Message = Request<Full<Bytes>>;

/// A call without an answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The other side has certainly not begun it: it can be made again.
    Untaken(Status),
    /// The other side may have done it.
    Taken(Status),
}

impl Instance {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: Arc::default(),
            failure: Lock::new(None),
            calls: Arc::default(),
        }
    }

    /// How many calls wait for their answer.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether it could not be reached a moment ago.
    pub(super) fn is_resting(&self) -> bool {
        self.failed_since(None).is_some()
    }

    pub(super) async fn call(
        &self,
        dialer: &Dialer,
        message: Message,
    ) -> Result<Response<Body>, Lost> {
        let _counted = Counted::new(&self.calls);
        let mut connection = self.connected(dialer).await.map_err(Lost::Untaken)?;
        let answer = connection.try_send_request(message);
        // A message may slip into the queue of a connection that has just ended. It comes back when
        // nobody can send there any more, so nobody may wait with a sender in his hands.
        drop(connection);
        let lost = match answer.await {
            Ok(response) => return Ok(response.map(Body::new)),
            Err(lost) => lost,
        };
        let untaken = lost.message().is_some() || is_untaken(lost.error());
        let error = one_line(lost.error());
        tracing::debug!(peer = %self.address, error, untaken, "a call was lost");
        let status = Status::unavailable("the connection was lost");
        Err(if untaken { Lost::Untaken(status) } else { Lost::Taken(status) })
    }

    /// The connection; a new one if there is none or it takes no more calls. One caller makes it,
    /// the others wait for the outcome, whatever it is.
    async fn connected(&self, dialer: &Dialer) -> Result<Sender, Status> {
        let asked = Instant::now();
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        if let Some(status) = self.failed_since(Some(asked)) {
            return Err(status);
        }
        *connection = None;
        let connected = self.connect(dialer).await;
        let failure = connected.as_ref().err().map(|status| (Instant::now(), status.clone()));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        connected.inspect(|open| *connection = Some(open.clone()))
    }

    async fn connect(&self, dialer: &Dialer) -> Result<Sender, Status> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            tracing::debug!(peer = %self.address, error = one_line(error), "cannot connect");
            Status::unavailable("the service cannot be reached")
        };
        let stream = dialer.connect(self.address).await.map_err(|error| unreachable(&error))?;
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| unreachable(&error))?;
        let (address, slot) = (self.address, Arc::downgrade(&self.connection));
        // It ends with the last sender; a shutdown need not wait for it.
        TokioExecutor::new().execute(async move {
            if let Err(error) = connection.await {
                tracing::debug!(peer = %address, error = one_line(&error), "connection ended");
            }
            if let Some(slot) = slot.upgrade() {
                slot.lock().await.take_if(|sender| sender.is_closed());
            }
        });
        Ok(sender)
    }

    /// Why it could not be reached, if that was after `since`, or lately.
    fn failed_since(&self, since: Option<Instant>) -> Option<Status> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, status) = failure.as_ref()?;
        let relevant = since.map_or_else(|| at.elapsed() < REST, |since| *at >= since);
        relevant.then(|| status.clone())
    }
}

/// Whether the other side says that it has not begun the call: it came after the last one that a
/// closing connection takes, or was refused (RFC 9113 sections 6.8 and 8.7).
fn is_untaken(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.filter(|error| error.is_remote()).is_some_and(|error| {
        let closing = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        closing || error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// One call more, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(calls: &Arc<AtomicUsize>) -> Self {
        calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(calls))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("address", &self.address).finish_non_exhaustive()
    }
}
