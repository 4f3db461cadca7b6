use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, request::Parts};
use http_body_util::{BodyExt as _, Full};
use portolan_kernel::IdGen;
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body, codegen::Bytes};
use tonic_types::StatusExt as _;
use tower::{Service, ServiceExt as _};

use super::server::grpc_timeout;
use crate::{Invalid, Validate};

/// How long a repetition waits at least; it waits at most twice as long, so that those whose
/// connection was lost together do not come back together.
const PAUSE: Duration = Duration::from_millis(25);

/// `[retry]`: how many calls are repeated whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// So many of a hundred calls to a service, at most; 0 for none at all.
    pub percent: u32,
    /// So many more after a time in which nothing was repeated.
    pub burst: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { percent: 10, burst: 10 }
    }
}

impl Validate for RetryConfig {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(self.percent <= 100, "retry.percent", "must be at most 100")?;
        Invalid::unless(self.burst <= 10_000, "retry.burst", "must be at most 10000")
    }
}

/// What may be repeated: every call adds a part of a repetition, and a repetition takes a whole
/// one. So a service in trouble gets little more calls than it would have got anyway.
#[derive(Debug)]
struct Budget {
    config: RetryConfig,
    /// Hundredths of a repetition.
    left: AtomicU32,
}

impl Budget {
    const fn new(config: RetryConfig) -> Self {
        let left = if config.percent == 0 { 0 } else { config.burst * 100 };
        Self { config, left: AtomicU32::new(left) }
    }

    fn earn(&self) {
        let RetryConfig { percent, burst } = self.config;
        // At least one, or else nothing could ever be saved up.
        let most = burst.max(1) * 100;
        let add = |left: u32| Some((left + percent).min(most));
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn spend(&self) -> bool {
        let take = |left: u32| left.checked_sub(100);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// A transport that repeats a call once whose connection was lost, if it is one of the methods that
/// may be done twice and the budget allows it. What was not begun is not its business: that goes to
/// another instance anyway. Clones share the budget.
#[derive(Clone, Debug)]
pub struct Retrying<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    service: &'static str,
    /// As `/package.Service/Method`.
    methods: &'static [&'static str],
    budget: Budget,
    ids: Arc<dyn IdGen>,
}

impl<S> Retrying<S> {
    /// Repeats `methods` (each `/package.Service/Method`) of `service`, by which it is known in
    /// metrics. The ids are the source of chance.
    pub fn new(
        inner: S,
        service: &'static str,
        methods: &'static [&'static str],
        config: RetryConfig,
        ids: Arc<dyn IdGen>,
    ) -> Self {
        metrics::describe_counter!(
            "portolan_call_retries_total",
            "Calls whose answer was lost: repeated, or not because too many are."
        );
        let shared = Shared { service, methods, budget: Budget::new(config), ids };
        Self { inner, shared: Arc::new(shared) }
    }
}

impl<S> Service<Request<Body>> for Retrying<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.shared.budget.earn();
        let again = self.inner.clone();
        if !self.shared.methods.contains(&request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let shared = Arc::clone(&self.shared);
        // The one that was made ready is the one to be called.
        let mut inner = std::mem::replace(&mut self.inner, again.clone());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let began = Instant::now();
            let first = inner.call(message(head.clone(), &body)).await;
            if !is_lost(&first) {
                return first;
            }
            let pause = shared.pause();
            let Some(head) = later(head, began.elapsed() + pause) else { return first };
            if !shared.may_repeat() {
                return first;
            }
            sleep(pause).await;
            again.oneshot(message(head, &body)).await
        })
    }
}

impl Shared {
    fn may_repeat(&self) -> bool {
        let may = self.budget.spend();
        let outcome = if may { "repeated" } else { "exhausted" };
        let labels = [("service", self.service), ("outcome", outcome)];
        metrics::counter!("portolan_call_retries_total", &labels).increment(1);
        may
    }

    fn pause(&self) -> Duration {
        let [.., chance] = self.ids.next().into_bytes();
        PAUSE + PAUSE * u32::from(chance) / u32::from(u8::MAX)
    }
}

fn message(head: Parts, body: &Bytes) -> Request<Body> {
    Request::from_parts(head, Body::new(Full::new(body.clone())))
}

/// Whether the connection was lost. A service that says itself that it is unavailable gives a
/// reason, and so does a breaker.
fn is_lost(answer: &Result<Response<Body>, Status>) -> bool {
    let Err(status) = answer else { return false };
    status.code() == Code::Unavailable && status.get_details_error_info().is_none()
}

/// The head of a call that is made so much later, if there is time left for it.
fn later(mut head: Parts, elapsed: Duration) -> Option<Parts> {
    if let Some(limit) = grpc_timeout(&head.headers) {
        let left = limit.checked_sub(elapsed)?.as_millis();
        let left = HeaderValue::from_str(&format!("{}m", left.min(99_999_999))).ok()?;
        head.headers.insert("grpc-timeout", left);
    }
    Some(head)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use portolan_kernel::{RandomIds, SystemClock};
    use proptest::prelude::*;
    use tower::service_fn;

    use super::*;

    const READ: &str = "/test.Test/Read";

    type Answer = Result<Response<Body>, Status>;
    /// A method, and what is answered to it.
    type Case = (&'static str, fn() -> Answer);

    /// The heads of the calls that were made.
    type Seen = Arc<Mutex<Vec<Parts>>>;

    /// A service that answers this to every call.
    fn service(
        config: RetryConfig,
        answer: impl Fn(usize) -> Answer + Clone + Send + 'static,
    ) -> (
        Seen,
        impl Service<Request<Body>, Response = Response<Body>, Error = Status, Future: Send> + Clone,
    ) {
        let seen = Seen::default();
        let calls = Arc::clone(&seen);
        let inner = service_fn(move |request: Request<Body>| {
            let mut calls = calls.lock().unwrap();
            calls.push(request.into_parts().0);
            std::future::ready(answer(calls.len()))
        });
        let ids = Arc::new(RandomIds(SystemClock));
        (seen, Retrying::new(inner, "test", &[READ], config, ids))
    }

    fn request(path: &str) -> Request<Body> {
        let request = Request::post(path).header("grpc-timeout", "1S");
        request.body(Body::new(Full::new(Bytes::from_static(b"body")))).unwrap()
    }

    fn lost() -> Answer {
        Err(Status::unavailable("the connection was lost"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_whose_answer_was_lost_is_repeated_once_in_what_time_is_left() {
        let first_lost = |call| if call == 1 { lost() } else { Ok(Response::new(Body::empty())) };
        let (seen, service) = service(RetryConfig::default(), first_lost);
        let started = Instant::now();
        assert!(service.oneshot(request(READ)).await.is_ok());
        let waited = started.elapsed();
        assert!((PAUSE..=2 * PAUSE + Duration::from_millis(1)).contains(&waited), "{waited:?}");
        let limits: Vec<_> =
            seen.lock().unwrap().iter().map(|head| grpc_timeout(&head.headers).unwrap()).collect();
        assert_eq!(limits[0], Duration::from_secs(1));
        assert!(limits[1] < limits[0] && limits[1] + 3 * PAUSE >= limits[0], "{limits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_is_repeated() {
        let reasoned = || Err(crate::grpc::status(&Away));
        let cases: [Case; 5] = [
            ("/test.Test/Write", lost),
            (READ, || Ok(Response::new(Body::empty()))),
            (READ, reasoned),
            (READ, || Err(Status::deadline_exceeded("no answer in time"))),
            (READ, || Err(Status::internal("boom"))),
        ];
        for (path, answer) in cases {
            let (seen, service) = service(RetryConfig::default(), move |_| answer());
            let _ = service.oneshot(request(path)).await;
            assert_eq!(seen.lock().unwrap().len(), 1, "{path}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("away")]
    struct Away;

    impl portolan_kernel::Coded for Away {
        fn code(&self) -> portolan_kernel::ErrorCode {
            portolan_kernel::ErrorCode::Unavailable
        }

        fn reason(&self) -> &'static str {
            "unavailable"
        }

        fn public_message(&self) -> std::borrow::Cow<'static, str> {
            "Come back.".into()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_gone_gets_a_tenth_more_calls_and_not_twice_as_many() {
        let config = RetryConfig { percent: 10, burst: 5 };
        let (seen, service) = service(config, |_| lost());
        for _ in 0..1_000 {
            assert!(service.clone().oneshot(request(READ)).await.is_err());
        }
        let calls = seen.lock().unwrap().len();
        assert!((1_100..=1_105).contains(&calls), "{calls}");
    }

    proptest! {
        #[test]
        fn no_more_is_spent_than_was_there_and_earned(
            percent in 0..=100_u32, burst in 0..20_u32,
            steps in prop::collection::vec(any::<bool>(), 0..300),
        ) {
            let budget = Budget::new(RetryConfig { percent, burst });
            let (mut calls, mut spent) = (0, 0);
            for call in steps {
                if call {
                    budget.earn();
                    calls += 1;
                } else {
                    spent += u32::from(budget.spend());
                }
            }
            let there = if percent == 0 { 0 } else { burst * 100 };
            prop_assert!(spent * 100 <= there + calls * percent);
        }
    }
}
