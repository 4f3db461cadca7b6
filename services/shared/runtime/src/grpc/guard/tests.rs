use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use portolan_kernel::Coded as _;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::*;
use crate::{grpc::Remote, metrics as registry};

const CONFIG: BreakerConfig =
    BreakerConfig { window_ms: 10_000, min_calls: 4, failure_percent: 50, open_ms: 2_500 };
const DEADLINE: Duration = Duration::from_secs(5);

/// A service that answers at once, or hangs.
#[derive(Clone, Default)]
struct Double(Arc<Inner>);

#[derive(Default)]
struct Inner {
    hung: AtomicBool,
    calls: AtomicUsize,
}

impl Double {
    fn hang(&self, hung: bool) {
        self.0.hung.store(hung, Ordering::SeqCst);
    }

    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }
}

impl Service<Request<Body>> for Double {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let hung = self.0.hung.load(Ordering::SeqCst);
        Box::pin(async move {
            if hung {
                sleep(DEADLINE).await;
                return Err(Status::deadline_exceeded("no answer in time"));
            }
            Ok(Response::new(Body::empty()))
        })
    }
}

fn request() -> Request<Body> {
    Request::new(Body::empty())
}

fn guarded(service: &'static str, calls: usize) -> (Double, Guarded<Double>) {
    let double = Double::default();
    (double.clone(), Guarded::new(double, service, CONFIG, calls))
}

/// A service that always answers this.
fn answering(
    answer: impl Fn() -> Result<Response<Body>, Status> + Clone,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Status, Future: Send + 'static> + Clone
{
    tower::service_fn(move |_request| std::future::ready(answer()))
}

async fn phase_after<S>(inner: S, calls: usize) -> Phase
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status> + Clone,
    S::Future: Send + 'static,
{
    let guarded = Guarded::new(inner, "test", CONFIG, 100);
    for _ in 0..calls {
        let _ = guarded.clone().oneshot(request()).await;
    }
    guarded.guard.with(|breaker, _| breaker.phase())
}

/// A service that does not answer within what its callers have left.
fn late(
    after: Duration,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Status, Future: Send + 'static> + Clone
{
    tower::service_fn(move |_request| async move {
        sleep(after).await;
        Err(Status::deadline_exceeded("no answer in time"))
    })
}

#[tokio::test(start_paused = true)]
async fn callers_who_had_no_time_left_tell_nothing_about_the_service() {
    assert_eq!(phase_after(late(SLOW / 2), 20).await, Phase::Closed);
    assert_eq!(phase_after(late(SLOW), 20).await, Phase::Open);
}

/// A refusal and how long its caller is to stay away.
fn refused(answer: Result<Response<Body>, Status>) -> (String, Option<u32>) {
    let remote = Remote::from(answer.unwrap_err());
    (remote.reason, remote.retry_after_secs)
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_left_alone_until_one_call_finds_it_back() {
    registry::install("test").unwrap();
    let (double, guarded) = guarded("hung", 100);
    let call = || guarded.clone().oneshot(request());
    let state = |value: u8| {
        let line = format!("portolan_breaker_state{{service=\"hung\"}} {value}");
        registry::render().contains(&line)
    };
    double.hang(true);
    join_all((0..4).map(|_| call())).await;
    assert!(state(2));

    let at = Instant::now();
    assert_eq!(refused(call().await), ("unavailable".to_owned(), Some(3)));
    assert_eq!((at.elapsed(), double.calls()), (Duration::ZERO, 4), "at once, without a call");

    sleep(CONFIG.open()).await;
    let answers = join_all((0..8).map(|_| call())).await;
    assert_eq!(double.calls(), 5, "one call tries");
    assert!(answers.iter().all(Result::is_err) && state(2));

    double.hang(false);
    sleep(CONFIG.open()).await;
    call().await.unwrap();
    assert!(state(0));
    assert!(join_all((0..8).map(|_| call())).await.iter().all(Result::is_ok));
    let text = registry::render();
    for (to, count) in [("open", 2), ("half_open", 2), ("closed", 1)] {
        let line =
            format!("portolan_breaker_transitions_total{{service=\"hung\",to=\"{to}\"}} {count}");
        assert!(text.contains(&line), "{line}");
    }
    assert!(text.contains("portolan_calls_refused_total{service=\"hung\",why=\"open\"} 8"));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_its_caller_gives_up_leaves_its_place_to_another() {
    let (double, guarded) = guarded("test", 100);
    let call = || guarded.clone().oneshot(request());
    double.hang(true);
    join_all((0..4).map(|_| call())).await;
    sleep(CONFIG.open()).await;
    assert!(timeout(Duration::from_millis(1), call()).await.is_err());
    double.hang(false);
    call().await.unwrap();
    assert!(call().await.is_ok(), "closed again");
}

#[tokio::test(start_paused = true)]
async fn callers_without_patience_open_it_only_if_they_waited_for_long() {
    for (waited, phase) in [(PATIENCE / 2, Phase::Closed), (PATIENCE, Phase::Open)] {
        let (double, guarded) = guarded("test", 100);
        double.hang(true);
        for _ in 0..4 {
            assert!(timeout(waited, guarded.clone().oneshot(request())).await.is_err());
        }
        assert_eq!(guarded.guard.with(|breaker, _| breaker.phase()), phase, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_take_no_more_than_their_places() {
    let (double, guarded) = guarded("test", 3);
    let call = || guarded.clone().oneshot(request());
    double.hang(true);
    let hanging = join_all((0..3).map(|_| call()));
    let others = async {
        let at = Instant::now();
        assert_eq!(refused(call().await), ("overloaded".to_owned(), Some(1)));
        assert_eq!((at.elapsed(), double.calls()), (Duration::ZERO, 3));
        double.hang(false);
    };
    tokio::join!(hanging, others);
    assert!(join_all((0..3).map(|_| call())).await.iter().all(Result::is_ok), "room again");
}

#[tokio::test(start_paused = true)]
async fn with_three_times_the_load_the_admitted_third_is_answered_in_little_more_than_a_second() {
    // Answers a hundred calls in a second, ten of them at once; the others wait.
    let workers = Arc::new(tokio::sync::Semaphore::new(10));
    let slow = tower::service_fn(move |_request| {
        let workers = Arc::clone(&workers);
        async move {
            let _worker = workers.acquire().await.unwrap();
            sleep(Duration::from_millis(100)).await;
            Ok(Response::new(Body::empty()))
        }
    });
    let guarded = Guarded::new(slow, "test", CONFIG, 1_000);
    let calls = (0..300 * 60).map(async |number: u32| {
        sleep(Duration::from_secs(1) * number / 300).await;
        let began = Instant::now();
        guarded.clone().oneshot(request()).await.is_ok().then(|| began.elapsed())
    });
    let took = join_all(calls).await;
    // By then it has found its measure.
    let late: Vec<Duration> = took[300 * 40..].iter().flatten().copied().collect();
    let slowest = late.iter().max().unwrap();
    assert!(*slowest < Duration::from_millis(1_500), "{slowest:?}");
    assert!((1_900..=2_300).contains(&late.len()), "of 2000 possible: {}", late.len());
}

#[tokio::test]
async fn what_a_service_answers_is_no_failure_unless_it_says_that_it_is_away() {
    let open: [fn() -> Status; 3] = [
        || Status::unavailable("the service cannot be reached"),
        || Status::unknown("h2 protocol error"),
        || status(&Refusal::Open { service: "database", retry_in: Duration::ZERO }),
    ];
    for failure in open {
        assert_eq!(phase_after(answering(move || Err(failure())), 4).await, Phase::Open);
        let head = move || Ok(failure().into_http());
        assert_eq!(phase_after(answering(head), 4).await, Phase::Open);
    }
    let closed: [fn() -> Status; 6] = [
        || Status::not_found("no such order"),
        || Status::failed_precondition("confirmed already"),
        || Status::resource_exhausted("too many open orders"),
        || Status::aborted("somebody else was faster"),
        || Status::internal("boom"),
        // Unavailable is what is behind it.
        || status(&Refusal::Full { service: "another" }),
    ];
    for answer in closed {
        assert_eq!(phase_after(answering(move || Err(answer())), 50).await, Phase::Closed);
    }
    let broken = || Ok(Response::builder().status(502).body(Body::empty()).unwrap());
    assert_eq!(phase_after(answering(broken), 4).await, Phase::Open, "a proxy's answer");
}

#[test]
fn a_refusal_says_when_to_come_back_in_whole_seconds() {
    for (ms, seconds) in [(1, 1), (1_000, 1), (1_001, 2)] {
        let refusal = Refusal::Open { service: "test", retry_in: Duration::from_millis(ms) };
        assert_eq!(refusal.retry_after_secs(), Some(seconds));
    }
}

#[test]
fn limits_that_cannot_be_meant_are_refused_by_name() {
    use crate::Validate as _;
    assert_eq!(BreakerConfig::default().validate(), Ok(()));
    for (key, config) in [
        ("breaker.window_ms", BreakerConfig { window_ms: 0, ..CONFIG }),
        ("breaker.min_calls", BreakerConfig { min_calls: 0, ..CONFIG }),
        ("breaker.failure_percent", BreakerConfig { failure_percent: 101, ..CONFIG }),
        ("breaker.open_ms", BreakerConfig { open_ms: 0, ..CONFIG }),
    ] {
        assert_eq!(config.validate().unwrap_err().key, key);
    }
}
