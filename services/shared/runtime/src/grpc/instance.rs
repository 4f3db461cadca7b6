use std::{
    error::Error as _,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    client::conn::http2::{self, Builder, SendRequest},
    rt::Executor as _,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::watch, time::Instant};
use tonic::{Status, body::Body, codegen::Bytes};

use crate::{
    net::{Dialer, Stream},
    one_line,
};

const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an instance that could not be reached is avoided.
const REST: Duration = Duration::from_secs(1);

type Sender = SendRequest<Full<Bytes>>;
type Driver = http2::Connection<TokioIo<Stream>, Full<Bytes>, TokioExecutor>;

/// One address of a service, with at most one connection to it.
pub(super) struct Instance {
    link: Arc<Link>,
    calls: Arc<AtomicUsize>,
}

/// The way to one address.
struct Link {
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Connection,
    /// When it could not be reached the last time, if it was not reached since.
    failed: Option<Instant>,
}

/// What there is of a connection.
#[derive(Default)]
enum Connection {
    #[default]
    Closed,
    /// A task is making it, which says here how that ended.
    Dialling(watch::Receiver<Option<Outcome>>),
    Open(Sender),
}

/// How making a connection ended. It holds none: nobody may wait with a sender in his hands.
type Outcome = Result<(), Status>;

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
        let link = Link { address, state: Mutex::default() };
        Self { link: Arc::new(link), calls: Arc::default() }
    }

    /// How many calls wait for their answer.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether it could not be reached a moment ago.
    pub(super) fn is_resting(&self) -> bool {
        self.link.state().failed.is_some_and(|at| at.elapsed() < REST)
    }

    pub(super) async fn call(
        &self,
        dialer: &Dialer,
        message: Message,
    ) -> Result<Response<Body>, Lost> {
        let _counted = Counted::new(&self.calls);
        let mut connection = self.link.connected(dialer).await.map_err(Lost::Untaken)?;
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
        tracing::debug!(peer = %self.link.address, error, untaken, "a call was lost");
        let status = Status::unavailable("the connection was lost");
        Err(if untaken { Lost::Untaken(status) } else { Lost::Taken(status) })
    }
}

impl Link {
    /// The connection; a new one if there is none or it takes no more calls. The callers of that
    /// time wait for the outcome together, whatever it is.
    async fn connected(self: &Arc<Self>, dialer: &Dialer) -> Result<Sender, Status> {
        let mut outcome = match self.open_or_dial(dialer) {
            Ok(open) => return Ok(open),
            Err(outcome) => outcome,
        };
        let unavailable = || Status::unavailable("the connection was lost");
        let made = outcome.wait_for(Option::is_some).await.map_err(|_| unavailable())?.clone();
        made.unwrap_or_else(|| Err(unavailable()))?;
        self.open().ok_or_else(unavailable)
    }

    fn open(&self) -> Option<Sender> {
        match &self.state().connection {
            Connection::Open(sender) if !sender.is_closed() => Some(sender.clone()),
            Connection::Closed | Connection::Dialling(_) | Connection::Open(_) => None,
        }
    }

    /// The open connection, or where its making will be told. A task makes it and no caller: one
    /// that gives up must not take the work away from the others, nor from those after it.
    fn open_or_dial(
        self: &Arc<Self>,
        dialer: &Dialer,
    ) -> Result<Sender, watch::Receiver<Option<Outcome>>> {
        let mut state = self.state();
        match &state.connection {
            Connection::Open(sender) if !sender.is_closed() => return Ok(sender.clone()),
            // Without its task nothing will be told.
            Connection::Dialling(outcome) if outcome.has_changed().is_ok() => {
                return Err(outcome.clone());
            }
            Connection::Closed | Connection::Dialling(_) | Connection::Open(_) => {}
        }
        let (tell, outcome) = watch::channel(None);
        state.connection = Connection::Dialling(outcome.clone());
        drop(state);
        // It ends soon or with the last sender; a shutdown need not wait for it.
        TokioExecutor::new().execute(Arc::clone(self).dial(dialer.clone(), tell));
        Err(outcome)
    }

    /// Makes the connection, tells how that went, and drives it to its end.
    async fn dial(self: Arc<Self>, dialer: Dialer, tell: watch::Sender<Option<Outcome>>) {
        let (sender, driver) = match self.connect(&dialer).await {
            Ok(connected) => connected,
            Err(error) => {
                tracing::debug!(peer = %self.address, %error, "cannot connect");
                let failed = Some(Instant::now());
                *self.state() = State { connection: Connection::Closed, failed };
                let status = Status::unavailable("the service cannot be reached");
                tell.send_replace(Some(Err(status)));
                return;
            }
        };
        *self.state() = State { connection: Connection::Open(sender), failed: None };
        tell.send_replace(Some(Ok(())));
        let (address, link) = (self.address, Arc::downgrade(&self));
        drop((self, tell));
        if let Err(error) = driver.await {
            tracing::debug!(peer = %address, error = one_line(&error), "connection ended");
        }
        if let Some(link) = link.upgrade() {
            link.forget_closed();
        }
    }

    async fn connect(&self, dialer: &Dialer) -> Result<(Sender, Driver), String> {
        let stream = dialer.connect(self.address).await.map_err(|error| one_line(&error))?;
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream));
        handshake.await.map_err(|error| one_line(&error))
    }

    fn forget_closed(&self) {
        let mut state = self.state();
        if matches!(&state.connection, Connection::Open(sender) if sender.is_closed()) {
            state.connection = Connection::Closed;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        f.debug_struct("Instance").field("address", &self.link.address).finish_non_exhaustive()
    }
}
