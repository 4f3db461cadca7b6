use std::time::Duration;

use portolan_lock::{Guard, LockConfig, LockError, Redlock};
use portolan_runtime::Context;
use portolan_testkit::{TestRedis, context, eventually};

pub(crate) use portolan_testkit::PATIENCE;
/// A lock that outlives every test.
pub(crate) const LONG: Duration = Duration::from_mins(10);

/// Three masters and a lock over them, whose patience does not depend on how busy the machine is.
pub(crate) struct Bench {
    pub(crate) servers: Vec<TestRedis>,
    pub(crate) lock: Redlock,
    ctx: Context,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(three(TestRedis::new), |_| ()).await
    }

    pub(crate) async fn with(
        servers: Vec<TestRedis>,
        change: impl FnOnce(&mut LockConfig),
    ) -> Self {
        let mut config = patient(&servers);
        change(&mut config);
        let ctx = context();
        let lock = Redlock::start(&ctx, &config).unwrap();
        let bench = Self { servers, lock, ctx };
        bench.reaches(3).await;
        bench
    }

    pub(crate) async fn reaches(&self, masters: usize) {
        let what = format!("{masters} masters are connected");
        eventually(PATIENCE, &what, async || (self.lock.reachable() == masters).then_some(()))
            .await;
    }

    pub(crate) async fn acquire(&self, purpose: &str) -> Result<Guard, LockError> {
        self.lock.acquire("alice", purpose, 0).await
    }

    /// Acquires as soon as nobody else holds the lock.
    pub(crate) async fn acquired(&self, purpose: &str) -> Guard {
        eventually(PATIENCE, "the lock is free", async || self.acquire(purpose).await.ok()).await
    }

    /// Sends a command to all masters.
    pub(crate) fn command(&self, line: &str) -> Vec<String> {
        self.servers.iter().map(|server| server.command(line)).collect()
    }

    /// On how many masters alice's lock is held.
    pub(crate) fn held(&self) -> usize {
        let answers = self.command("EXISTS portolan:lock:alice");
        answers.iter().filter(|answer| *answer == ":1").count()
    }

    pub(crate) async fn becomes_held(&self, masters: usize) {
        let what = format!("held on {masters} masters");
        eventually(PATIENCE, &what, async || (self.held() == masters).then_some(())).await;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.ctx.tasks.hard().cancel();
    }
}

pub(crate) fn three(make: impl Fn() -> TestRedis) -> Vec<TestRedis> {
    (0..3).map(|_| make()).collect()
}

pub(crate) fn patient(servers: &[TestRedis]) -> LockConfig {
    let mut config = LockConfig::new(servers.iter().map(TestRedis::address).collect());
    config.ttl_ms = u64::try_from(LONG.as_millis()).unwrap();
    config.instance_timeout_ms = 20_000;
    config.budget_ms = 60_000;
    config
}

pub(crate) const BUSY: LockError = LockError::Busy { same_purpose: false };
