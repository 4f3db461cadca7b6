use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use portolan_kernel::IdGen;
use portolan_runtime::{Context, Tasks, tls::TlsError};
use portolan_valkey::{Dialer, Instance, Outage, Purpose, Turn, answer};
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    Guard, LockConfig, LockError, Terms, metrics,
    quorum::{Count, Verdict, Vote, count},
    retry::Schedule,
    script::{self, Answer, Claim, MAX_TOKEN},
};

/// A lock for each user over independent Redis masters. Clones share everything.
#[derive(Clone)]
pub struct Redlock {
    masters: Arc<Masters>,
    ids: Arc<dyn IdGen>,
    schedule: Schedule,
    outage: Arc<Outage>,
}

/// The masters, and what is common to all that is asked of them.
#[derive(Debug)]
pub(crate) struct Masters {
    instances: Vec<Instance>,
    tasks: Tasks,
    pub(crate) terms: Terms,
    pub(crate) instance_timeout: Duration,
}

/// One attempt to get a lock, and everything that comes of it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) claim: Claim,
    over: AtomicBool,
    /// The connection over which each master was asked, by its number. The release follows on the
    /// same one: a master that stands still finds it right behind the request, however late.
    asked: Vec<OnceLock<MultiplexedConnection>>,
}

impl Attempt {
    fn new(claim: Claim, masters: usize) -> Self {
        let asked = std::iter::repeat_with(OnceLock::new).take(masters).collect();
        Self { claim, over: AtomicBool::new(false), asked }
    }

    /// The connection over which this master was asked.
    fn asked(&self, instance: &Instance) -> Option<&OnceLock<MultiplexedConnection>> {
        self.asked.get(instance.number)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Masters {
    /// Asks all masters at once and returns at the verdict; those who have not answered by then go
    /// on in the background.
    pub(crate) async fn vote<Y, N, F>(&self, ask: impl Fn(Instance) -> F) -> Count<Y, N>
    where
        Y: Send + 'static,
        N: Send + 'static,
        F: Future<Output = Vote<Y, N>> + Send + 'static,
    {
        let (sender, votes) = mpsc::unbounded_channel();
        for instance in &self.instances {
            let (vote, sender) = (ask(instance.clone()), sender.clone());
            self.tasks.spawn_request(async move {
                // After the verdict nobody listens.
                let _ = sender.send(vote.await);
            });
        }
        drop(sender);
        count(self.instances.len(), votes).await
    }

    /// Ends an attempt: nothing of it is to remain on any master, not even on those that seemed to
    /// fail. Tells when all have answered; `None` if it was over before.
    pub(crate) fn release(&self, attempt: &Arc<Attempt>) -> Option<oneshot::Receiver<()>> {
        if attempt.over.swap(true, Ordering::SeqCst) {
            return None;
        }
        let (done, released) = oneshot::channel();
        let (attempt, instances) = (Arc::clone(attempt), self.instances.clone());
        self.tasks.spawn_request(async move {
            let all = instances.iter().map(|instance| forget(instance, &attempt));
            futures::future::join_all(all).await;
            let _ = done.send(());
        });
        Some(released)
    }
}

/// Releases on one master. What cannot be released runs out.
async fn forget(instance: &Instance, attempt: &Attempt) {
    let Some(on) = attempt.asked(instance).and_then(OnceLock::get) else { return };
    if answer(attempt.claim.release(on.clone())).await.is_none() {
        // That connection may be gone, and what was asked over it done.
        let _: Option<bool> = instance.ask(|on| attempt.claim.release(on)).await;
    }
}

/// Asks one master. When the attempt has ended meanwhile, its release may have come before this
/// request, so another one follows.
async fn take(instance: Instance, attempt: Arc<Attempt>, floor: i64) -> Vote<i64, String> {
    if attempt.is_over() {
        return Vote::Silent;
    }
    let Some((asked, on)) = attempt.asked(&instance).zip(instance.connection()) else {
        return Vote::Silent;
    };
    let answer = answer(attempt.claim.acquire(asked.get_or_init(|| on).clone(), floor)).await;
    if attempt.is_over() {
        forget(&instance, &attempt).await;
    }
    match answer {
        Some(Answer::Token(token)) => Vote::Yes(token),
        Some(Answer::HeldFor { purpose }) => Vote::No(purpose),
        None => Vote::Silent,
    }
}

impl Redlock {
    /// Starts connecting to the masters. Nobody waits for them: a lock without a majority is
    /// [`LockError::Unavailable`].
    ///
    /// # Errors
    /// A file of the configuration is missing or of no use.
    pub fn start(ctx: &Context, config: &LockConfig) -> Result<Self, TlsError> {
        metrics::describe();
        let purpose = Purpose {
            name: "lock master",
            timeout: config.instance_timeout(),
            scripts: script::ALL,
            report: metrics::instance,
        };
        let roots = config.tls_roots.as_deref().map(|path| ("lock.tls_roots", path));
        let identity = config.tls_identity.as_deref().map(|path| ("lock.tls_identity", path));
        let dialer = Dialer::load(purpose, roots, identity, &ctx.tasks)?;
        let connect = |(number, address): (usize, &String)| {
            Instance::start(number, address.clone(), dialer.clone(), &ctx.tasks)
        };
        let masters = Masters {
            instances: config.masters.iter().enumerate().map(connect).collect(),
            tasks: ctx.tasks.clone(),
            terms: config.terms(),
            instance_timeout: config.instance_timeout(),
        };
        Ok(Self {
            masters: Arc::new(masters),
            ids: Arc::clone(&ctx.ids),
            schedule: Schedule::new(config.attempts, config.budget()),
            outage: Arc::default(),
        })
    }

    /// How many masters are connected.
    pub fn reachable(&self) -> usize {
        let instances = self.masters.instances.iter();
        instances.filter(|instance| instance.connection().is_some()).count()
    }

    /// Tries to take the lock of `user` within the configured budget.
    ///
    /// `purpose` says what for, so that a duplicate of the same request can wait instead of being
    /// refused. The token is greater than every token handed out for this user before, and at
    /// least `floor`.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn acquire(&self, user: &str, purpose: &str, floor: i64) -> Result<Guard, LockError> {
        let started = Instant::now();
        let outcome = self.schedule.run(|| self.attempt(user, purpose, floor)).await;
        metrics::acquisition(&outcome, started.elapsed());
        match self.outage.note(matches!(outcome, Err(LockError::Unavailable))) {
            Some(Turn::Begun) => {
                let connected = self.reachable();
                tracing::warn!(connected, "no majority of the lock's masters: on without the lock");
            }
            Some(Turn::Over) => tracing::info!("a majority of the lock's masters answers again"),
            None => {}
        }
        outcome
    }

    async fn attempt(&self, user: &str, purpose: &str, floor: i64) -> Result<Guard, LockError> {
        if floor > MAX_TOKEN {
            return Err(LockError::Unavailable);
        }
        let (asked, terms) = (Instant::now(), self.masters.terms);
        let claim = Claim::new(user, purpose, &self.ids.next(), terms.ttl);
        let attempt = Arc::new(Attempt::new(claim, self.masters.instances.len()));
        // Dropped on every way out, that of a caller who stopped waiting included: it releases.
        let guard = Guard::unheld(Arc::clone(&self.masters), Arc::clone(&attempt));
        let said = self.masters.vote(|instance| take(instance, Arc::clone(&attempt), floor)).await;
        match said.verdict {
            Verdict::Granted => {}
            Verdict::Refused => {
                return Err(LockError::Busy {
                    same_purpose: said.no.iter().any(|held| held == purpose),
                });
            }
            Verdict::Unreachable => return Err(LockError::Unavailable),
        }
        let token = said.yes.into_iter().max().ok_or(LockError::Unavailable)?;
        self.write_back(&attempt, token).await?;
        terms.left(asked.elapsed()).ok_or(LockError::Unavailable)?;
        Ok(guard.granted(token, asked + terms.granted()))
    }

    /// Makes a majority remember the token. Otherwise a later majority might meet this one in a
    /// master with a smaller fence, and hand out a smaller token.
    async fn write_back(&self, attempt: &Arc<Attempt>, token: i64) -> Result<(), LockError> {
        let raised = self.masters.vote(|instance| {
            let attempt = Arc::clone(attempt);
            async move {
                match instance.ask(|on| attempt.claim.raise(on, token)).await {
                    Some(()) => Vote::Yes(()),
                    None => Vote::<(), ()>::Silent,
                }
            }
        });
        match raised.await.verdict {
            Verdict::Granted => Ok(()),
            Verdict::Refused | Verdict::Unreachable => Err(LockError::Unavailable),
        }
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redlock").field("masters", &self.masters).finish_non_exhaustive()
    }
}
