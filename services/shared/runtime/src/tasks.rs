use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use futures::FutureExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts, names, tracks and drains what runs in the background. Clones share everything.
#[derive(Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

struct Inner {
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
    died: CancellationToken,
    failure: Mutex<Option<anyhow::Error>>,
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Everything ended by itself.
    InTime,
    /// Something was still running when the grace was over, and was dropped.
    Cut,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        let hard = CancellationToken::new();
        let inner = Inner {
            tracker: TaskTracker::new(),
            soft: hard.child_token(),
            hard,
            died: CancellationToken::new(),
            failure: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same as [`Tasks::new`], for readers of tests.
    pub fn new_for_test() -> Self {
        Self::new()
    }

    /// Starts a task that must live as long as the process and end soon after the soft token.
    /// Ending earlier in any way stops the process. The hard token drops it where it stands.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let tasks = self.clone();
        self.inner.tracker.spawn(async move {
            let hard = tasks.hard();
            let guarded = AssertUnwindSafe(task).catch_unwind();
            tokio::select! {
                biased;
                outcome = guarded => tasks.ended(name, outcome),
                () = hard.cancelled() => tracing::warn!(task = name, "dropped at the hard stop"),
            }
        });
    }

    /// Starts a short piece of work, for instance one request: it may end whenever it likes, and
    /// a panic in it harms nobody else. It is drained like the others.
    pub fn spawn_request(&self, work: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard();
        self.inner.tracker.spawn(async move {
            let guarded = AssertUnwindSafe(work).catch_unwind();
            tokio::select! {
                biased;
                outcome = guarded => if outcome.is_err() { tracing::error!("a request panicked") },
                () = hard.cancelled() => {}
            }
        });
    }

    /// [`Tasks::spawn`] for a thread that blocks. It must watch [`Tasks::soft`] itself; the hard
    /// token cannot drop it.
    pub fn spawn_blocking(
        &self,
        name: &'static str,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) {
        let tasks = self.clone();
        self.inner.tracker.spawn_blocking(move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
            tasks.ended(name, outcome);
        });
    }

    /// Cancelled when work should come to its end: take nothing new, finish what runs.
    pub fn soft(&self) -> CancellationToken {
        self.inner.soft.clone()
    }

    /// Cancelled when the grace is over: everything is dropped. Implies the soft token.
    pub fn hard(&self) -> CancellationToken {
        self.inner.hard.clone()
    }

    /// Waits until a task died, and says which and why.
    pub async fn died(&self) -> anyhow::Error {
        self.inner.died.cancelled().await;
        let mut failure = self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().unwrap_or_else(|| anyhow!("a task died"))
    }

    /// Soft token, wait for everything at most `grace`, hard token.
    pub async fn shutdown(self, grace: Duration) -> Drained {
        self.inner.soft.cancel();
        self.inner.tracker.close();
        let drained = tokio::select! {
            biased;
            () = self.inner.tracker.wait() => true,
            () = self.inner.hard.cancelled() => false,
            () = tokio::time::sleep(grace) => false,
        };
        self.inner.hard.cancel();
        if drained {
            return Drained::InTime;
        }
        // Futures are dropped at their next poll; a blocked thread is left behind.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.inner.tracker.wait()).await;
        Drained::Cut
    }

    fn ended(&self, name: &'static str, outcome: std::thread::Result<anyhow::Result<()>>) {
        let stopping = self.inner.soft.is_cancelled();
        let error = match outcome {
            Ok(Ok(())) if stopping => return tracing::debug!(task = name, "ended"),
            Ok(Ok(())) => anyhow!("task {name} ended unexpectedly"),
            Ok(Err(error)) if stopping => {
                let error = crate::one_line(error.as_ref());
                return tracing::warn!(task = name, error, "ended with an error");
            }
            Ok(Err(error)) => error.context(format!("task {name} failed")),
            Err(_panic) => anyhow!("task {name} panicked"),
        };
        let mut failure = self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        drop(failure);
        self.inner.died.cancel();
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.inner.tracker.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn death_of(task: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> String {
        let tasks = Tasks::new_for_test();
        tasks.spawn("worker", task);
        crate::one_line(tasks.died().await.as_ref())
    }

    #[tokio::test]
    async fn a_task_dies_by_ending_failing_or_panicking() {
        assert_eq!(death_of(async { Ok(()) }).await, "task worker ended unexpectedly");
        let failed = death_of(async { Err(anyhow!("b").context("a")) }).await;
        assert_eq!(failed, "task worker failed: a: b");
        assert_eq!(death_of(async { panic!("oh") }).await, "task worker panicked");
    }

    #[tokio::test]
    async fn requests_may_end_and_even_panic() {
        let tasks = Tasks::new_for_test();
        tasks.spawn_request(async {});
        tasks.spawn_request(async { panic!("one request only") });
        assert_eq!(tasks.clone().shutdown(Duration::from_secs(5)).await, Drained::InTime);
        assert!(tasks.died().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_error_after_the_soft_token_is_no_death() {
        let tasks = Tasks::new_for_test();
        let soft = tasks.soft();
        tasks.spawn("worker", async move {
            soft.cancelled().await;
            Err(anyhow!("connection closed"))
        });
        assert_eq!(tasks.clone().shutdown(Duration::from_secs(5)).await, Drained::InTime);
        assert!(tasks.died().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_blocking_task_dies_like_the_others() {
        let tasks = Tasks::new_for_test();
        tasks.spawn_blocking("poll", || Err(anyhow!("fatal")));
        assert_eq!(crate::one_line(tasks.died().await.as_ref()), "task poll failed: fatal");
    }

    #[tokio::test(start_paused = true)]
    async fn the_hard_token_drops_what_outlives_the_grace() {
        let tasks = Tasks::new_for_test();
        tasks.spawn("stubborn", std::future::pending());
        let start = tokio::time::Instant::now();
        assert_eq!(tasks.clone().shutdown(Duration::from_secs(20)).await, Drained::Cut);
        assert_eq!(start.elapsed().as_secs(), 20);
        assert_eq!(tasks.inner.tracker.len(), 0);
    }
}
