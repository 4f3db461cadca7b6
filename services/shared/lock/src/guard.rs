use std::{
    convert::Infallible,
    fmt,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    quorum::{Verdict, Vote},
    redlock::{Attempt, Masters},
};

/// A held lock; dropping it releases.
pub struct Guard {
    masters: Arc<Masters>,
    attempt: Arc<Attempt>,
    token: i64,
    until: Mutex<Instant>,
}

impl Guard {
    /// Releases what an attempt may have got, and is not valid before [`Guard::granted`].
    pub(crate) fn unheld(masters: Arc<Masters>, attempt: Arc<Attempt>) -> Self {
        Self { masters, attempt, token: 0, until: Mutex::new(Instant::now()) }
    }

    pub(crate) fn granted(mut self, token: i64, until: Instant) -> Self {
        self.token = token;
        self.until = Mutex::new(until);
        self
    }

    /// The fencing token.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Whether the lock has not run out, by this process's monotonic clock.
    pub fn is_valid(&self) -> bool {
        !self.attempt.is_over() && !self.left().is_zero()
    }

    fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }

    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the lock for as long as `work` takes: extends it whenever half of its time is over,
    /// while it is valid and a majority agrees. A lock that is lost all the same stays lost, and
    /// the work goes on: it is the fence that decides.
    pub async fn while_running<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep() => match never {},
        }
    }

    async fn keep(&self) -> Infallible {
        let terms = self.masters.terms;
        while self.is_valid() {
            sleep(self.left().saturating_sub(terms.extend_at())).await;
            if !terms.may_extend(self.left()) {
                break;
            }
            if !self.extend().await {
                sleep(self.masters.instance_timeout).await;
            }
        }
        pending().await
    }

    /// Begins the time to live anew, unless little of it is left. Returns whether it did.
    pub async fn extend(&self) -> bool {
        if self.attempt.is_over() || !self.masters.terms.may_extend(self.left()) {
            return false;
        }
        let (asked, attempt) = (Instant::now(), Arc::clone(&self.attempt));
        let count = self.masters.vote(move |instance| {
            let attempt = Arc::clone(&attempt);
            async move {
                match instance.ask(|on| attempt.claim.extend(on)).await {
                    Some(true) => Vote::Yes(()),
                    Some(false) => Vote::No(()),
                    None => Vote::Silent,
                }
            }
        });
        let granted = count.await.verdict == Verdict::Granted;
        // What ran out while the masters were asked may have been another's in between.
        if !granted || !self.is_valid() {
            return false;
        }
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) =
            asked + self.masters.terms.granted();
        true
    }

    /// Releases now, and returns when every master has answered or is not going to.
    pub async fn release(&self) {
        if let Some(released) = self.masters.release(&self.attempt) {
            let _ = released.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody waits for it.
        drop(self.masters.release(&self.attempt));
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("token", &self.token).finish_non_exhaustive()
    }
}
