//! How long it takes to get the lock, or to hear that there is none, from three masters of this
//! machine with the configuration of production. Prints a table for docs/RELIABILITY.md:
//!
//!     cargo bench -p portolan-lock --profile dev
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people")]

use std::time::{Duration, Instant};

use futures::future::join_all;
use portolan_lock::{LockConfig, LockError, Redlock};
use portolan_testkit::{TestRedis, context};

const ALONE: usize = 2_000;
const WORKERS: usize = 8;
const EACH: usize = 150;
/// How long a holder works.
const HELD: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug)]
enum Masters {
    AllUp,
    OneHung,
    OneDown,
    TwoHung,
    TwoDown,
}

impl Masters {
    const ALL: [Self; 5] =
        [Self::AllUp, Self::OneHung, Self::OneDown, Self::TwoHung, Self::TwoDown];

    const fn name(self) -> &'static str {
        match self {
            Self::AllUp => "all up",
            Self::OneHung => "one hung",
            Self::OneDown => "one down",
            Self::TwoHung => "two hung",
            Self::TwoDown => "two down",
        }
    }

    fn hurt(self, servers: &mut [TestRedis]) {
        match self {
            Self::AllUp => {}
            Self::OneHung => servers[0].freeze(),
            Self::OneDown => servers[0].kill(),
            Self::TwoHung => servers[..2].iter().for_each(TestRedis::freeze),
            Self::TwoDown => servers[..2].iter_mut().for_each(TestRedis::kill),
        }
    }
}

#[derive(Default)]
struct Times {
    took: Vec<Duration>,
    acquired: usize,
    busy: usize,
    unavailable: usize,
}

impl Times {
    fn add<T>(&mut self, took: Duration, outcome: &Result<T, LockError>) {
        self.took.push(took);
        match outcome {
            Ok(_) => self.acquired += 1,
            Err(LockError::Busy { .. }) => self.busy += 1,
            Err(LockError::Unavailable) => self.unavailable += 1,
        }
    }

    /// In milliseconds.
    fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a short list"
        )]
        let at = (part * (sorted.len() - 1) as f64) as usize;
        sorted[at].as_secs_f64() * 1_000.0
    }

    fn print(&self, what: &str, masters: Masters, base: &mut Option<f64>) {
        let (p50, p99) = (self.percentile(0.5), self.percentile(0.99));
        let ratio = p50 / *base.get_or_insert(p50);
        let (name, Self { acquired, busy, unavailable, .. }) = (masters.name(), self);
        println!(
            "| {what} | {name} | {p50:.2} | {p99:.2} | {ratio:.1} | {acquired} | {busy} | {unavailable} |"
        );
    }
}

async fn lock(masters: Masters) -> (Redlock, Vec<TestRedis>) {
    let mut servers: Vec<TestRedis> = (0..3).map(|_| TestRedis::new()).collect();
    let config = LockConfig::new(servers.iter().map(TestRedis::address).collect());
    let lock = Redlock::start(&context(), &config).unwrap();
    while lock.reachable() < servers.len() {
        tokio::time::sleep(HELD).await;
    }
    masters.hurt(&mut servers);
    (lock, servers)
}

/// One after the other, each for another user.
async fn alone(lock: &Redlock) -> Times {
    let mut times = Times::default();
    for n in 0..ALONE {
        let user = format!("user-{n}");
        let started = Instant::now();
        let outcome = lock.acquire(&user, "bench", 0).await;
        times.add(started.elapsed(), &outcome);
    }
    times
}

/// All for the same user.
async fn contended(lock: &Redlock) -> Times {
    let worker = |number: usize| async move {
        let (mut times, purpose) = (Times::default(), format!("worker {number}"));
        for _ in 0..EACH {
            let started = Instant::now();
            let outcome = lock.acquire("everybody", &purpose, 0).await;
            times.add(started.elapsed(), &outcome);
            if let Ok(guard) = outcome {
                tokio::time::sleep(HELD).await;
                drop(guard);
            }
        }
        times
    };
    let mut all = Times::default();
    for times in join_all((0..WORKERS).map(worker)).await {
        all.took.extend(times.took);
        all.acquired += times.acquired;
        all.busy += times.busy;
        all.unavailable += times.unavailable;
    }
    all
}

#[tokio::main]
async fn main() {
    println!("| | Masters | p50 ms | p99 ms | p50 to all up | acquired | busy | unavailable |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let (mut base_alone, mut base_contended) = (None, None);
    for masters in Masters::ALL {
        let (lock, _servers) = lock(masters).await;
        alone(&lock).await.print("alone", masters, &mut base_alone);
    }
    for masters in Masters::ALL {
        let (lock, _servers) = lock(masters).await;
        let what = format!("{WORKERS} at once");
        contended(&lock).await.print(&what, masters, &mut base_contended);
    }
}
