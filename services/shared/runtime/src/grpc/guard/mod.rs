//! What stands between us and a service that fails or hangs: a breaker, so that it is left alone
//! and our callers hear so at once, and a limit for the calls under way, so that those that hang do
//! not take everybody's place.

mod breaker;
mod config;
mod refusal;
#[cfg(test)]
mod tests;
mod window;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::Service;

use self::{
    breaker::{Breaker, Leave, Outcome, Phase},
    refusal::Refusal,
};
use super::{Client, ERROR_DOMAIN, status};
use crate::limit::{Answer, Limit, Place};

pub use config::BreakerConfig;

/// Who waited for so long and then went away was not answered. Who went earlier says nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer that takes longer is a sign that the service has too much to do.
const SLOW: Duration = Duration::from_secs(1);

/// A transport that makes no call while its breaker is open or as many as may be are under way:
/// then the answer is `UNAVAILABLE` at once, with `RetryInfo`. Clones share breaker and limit.
///
/// A call has failed if the service cannot be reached, does not answer in time, or says itself that
/// it is unavailable. Less than a second is no time: whoever had no more left of their own tells
/// nothing about the service. Whatever else it answers is an answer: a refusal with a reason, also that
/// something behind it is unavailable, is none of its faults. A call is under way until the head of
/// its answer is there; a stream is not under way.
#[derive(Clone, Debug)]
pub struct Guarded<S = Client> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S> Guarded<S> {
    /// Guards the way to `service`, by which it is known in logs and metrics, with so many calls
    /// under way at most.
    pub fn new(inner: S, service: &'static str, config: BreakerConfig, calls: usize) -> Self {
        Self { inner, guard: Arc::new(Guard::new(service, config, calls)) }
    }
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = match self.guard.admit() {
            Ok(call) => call,
            Err(refusal) => return Box::pin(std::future::ready(Err(status(&refusal)))),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            call.heard(&answer);
            answer
        })
    }
}

/// What all calls to one service share.
struct Guard {
    service: &'static str,
    breaker: Mutex<Breaker>,
    limit: Mutex<Limit>,
}

impl Guard {
    fn new(service: &'static str, config: BreakerConfig, limit: usize) -> Self {
        describe_metrics();
        let breaker = Mutex::new(Breaker::new(config, Instant::now()));
        let guard = Self {
            service,
            breaker,
            limit: Mutex::new(Limit::new(limit.div_ceil(16)..=limit, SLOW)),
        };
        guard.show(Phase::Closed);
        guard.show_places(limit);
        guard
    }

    fn admit(self: &Arc<Self>) -> Result<Call, Refusal> {
        let leave = self.with(Breaker::admit).map_err(|retry_in| {
            self.refused("open");
            Refusal::Open { service: self.service, retry_in }
        })?;
        let place = self.limit().enter();
        let Some(place) = place else {
            self.with(|breaker, now| breaker.heard(leave, Outcome::Unknown, now));
            self.refused("full");
            return Err(Refusal::Full { service: self.service });
        };
        Ok(Call { guard: Arc::clone(self), leave: Some((leave, place)), began: Instant::now() })
    }

    /// Does it to the breaker, and tells the world if that has changed its state.
    fn with<T>(&self, act: impl FnOnce(&mut Breaker, Instant) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker.phase();
        let done = act(&mut breaker, Instant::now());
        let after = breaker.phase();
        if before != after {
            self.tell(after);
        }
        done
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the place of a call back.
    fn left(&self, place: Place, answer: Answer) {
        let mut limit = self.limit();
        let before = limit.places();
        limit.leave(place, answer, Instant::now());
        if limit.places() != before {
            self.show_places(limit.places());
        }
    }

    fn show_places(&self, places: usize) {
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        metrics::gauge!("portolan_calls_limit", "service" => self.service).set(places);
    }

    fn tell(&self, phase: Phase) {
        let service = self.service;
        let to = match phase {
            Phase::Closed => {
                tracing::info!(service, "the service answers again, breaker closed");
                "closed"
            }
            Phase::HalfOpen => {
                tracing::info!(service, "one call tries the service, breaker half open");
                "half_open"
            }
            Phase::Open => {
                tracing::warn!(service, "the service does not answer, breaker open");
                "open"
            }
        };
        let labels = [("service", service), ("to", to)];
        metrics::counter!("portolan_breaker_transitions_total", &labels).increment(1);
        self.show(phase);
    }

    fn show(&self, phase: Phase) {
        let value = match phase {
            Phase::Closed => 0.0,
            Phase::HalfOpen => 1.0,
            Phase::Open => 2.0,
        };
        metrics::gauge!("portolan_breaker_state", "service" => self.service).set(value);
    }

    fn refused(&self, why: &'static str) {
        let labels = [("service", self.service), ("why", why)];
        metrics::counter!("portolan_calls_refused_total", &labels).increment(1);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("service", &self.service).finish_non_exhaustive()
    }
}

/// A call under way. Dropped, it was given up by its caller.
struct Call {
    guard: Arc<Guard>,
    leave: Option<(Leave, Place)>,
    began: Instant,
}

impl Call {
    fn heard(mut self, answer: &Result<Response<Body>, Status>) {
        let refusal = match answer {
            Ok(response) if response.status().is_server_error() => Some(Status::unknown("")),
            Ok(response) => Status::from_header_map(response.headers()),
            Err(status) => Some(status.clone()),
        };
        match refusal {
            Some(status) if self.was_hasty(&status) => self.end(Outcome::Unknown, Answer::Unknown),
            Some(status) if is_failure(&status) => self.end(Outcome::Failed, Answer::Failed),
            // It may have waited for somebody else.
            Some(_) => self.end(Outcome::Answered, Answer::Unknown),
            None => self.end(Outcome::Answered, Answer::Took(self.began.elapsed())),
        }
    }

    /// Whether the caller's time was over before the service can be called slow.
    fn was_hasty(&self, status: &Status) -> bool {
        let over = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
        over && self.began.elapsed() < SLOW
    }

    fn end(&mut self, outcome: Outcome, answer: Answer) {
        if let Some((leave, place)) = self.leave.take() {
            self.guard.with(|breaker, now| breaker.heard(leave, outcome, now));
            self.guard.left(place, answer);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.began.elapsed() >= PATIENCE {
            self.end(Outcome::Failed, Answer::Failed);
        } else {
            self.end(Outcome::Unknown, Answer::Unknown);
        }
    }
}

/// Whether the service itself is in trouble. A reason of its own that is another than that one is
/// an answer.
fn is_failure(status: &Status) -> bool {
    let code = status.code();
    let trouble = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown];
    let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN);
    let unspecific = |reason: &str| matches!(reason, "unavailable" | "deadline_exceeded");
    trouble.contains(&code) && info.is_none_or(|info| unspecific(&info.reason))
}

fn describe_metrics() {
    metrics::describe_gauge!(
        "portolan_breaker_state",
        "The breaker towards the service: 0 closed, 1 half open, 2 open."
    );
    metrics::describe_counter!(
        "portolan_breaker_transitions_total",
        "How often the breaker towards the service changed to this state."
    );
    metrics::describe_counter!(
        "portolan_calls_refused_total",
        "Calls that were not made: the breaker was open, or as many under way as may be."
    );
    metrics::describe_gauge!("portolan_calls_limit", "How many calls may be under way at once.");
}
