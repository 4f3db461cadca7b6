//! The shared budget against a real server.

use std::time::Duration;

use portolan_runtime::Context;
use portolan_testkit::{PATIENCE, TestRedis, context, eventually};

use super::{Quota, QuotaConfig};
use crate::rate::{Class, Rate, Verdict};

/// So slow that nothing comes back while a test runs.
const FEW: Rate = Rate { requests: 3, per_secs: 86_400 };
const STEP: Duration = Duration::from_hours(8);

/// A quota and what it lives in.
struct Bench {
    quota: Quota,
    ctx: Context,
}

impl Bench {
    /// With a patience that does not depend on how busy the machine is.
    async fn at(server: &TestRedis) -> Self {
        let mut config = QuotaConfig::new(server.address());
        (config.timeout_ms, config.read, config.write) = (20_000, FEW, FEW);
        let ctx = context();
        let bench = Self { quota: Quota::start(&config, &ctx).unwrap(), ctx };
        eventually(PATIENCE, "connected", async || bench.quota.server.connection()).await;
        bench
    }

    async fn write(&self, subject: &str) -> Verdict {
        self.quota.take(Class::Write, subject).await.unwrap().1
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.ctx.tasks.hard().cancel();
    }
}

const fn left(remaining: u32) -> Verdict {
    Verdict::Admitted { remaining }
}

fn wait(verdict: Verdict) -> Duration {
    match verdict {
        Verdict::Refused { wait } => wait,
        Verdict::Admitted { .. } => panic!("not refused: {verdict:?}"),
    }
}

#[tokio::test]
async fn a_budget_is_one_however_many_ask_for_it() {
    let server = TestRedis::new();
    let (one, other) = (Bench::at(&server).await, Bench::at(&server).await);
    assert_eq!(one.write("alice").await, left(2));
    assert_eq!(other.write("alice").await, left(1));
    assert_eq!(one.write("alice").await, left(0));
    let told = wait(other.write("alice").await);
    assert!(told <= STEP && told + PATIENCE > STEP, "{told:?}");
    assert_eq!(other.write("bob").await, left(2), "everybody has their own");
    let (_, read) = other.quota.take(Class::Read, "alice").await.unwrap();
    assert_eq!(read, left(2), "what only reads has another");
}

#[tokio::test]
async fn it_comes_back_evenly_by_the_time_of_the_server_and_leaves_nothing_behind() {
    let server = TestRedis::with_clock();
    let bench = Bench::at(&server).await;
    for remaining in [2, 1, 0] {
        assert_eq!(bench.write("alice").await, left(remaining));
    }
    wait(bench.write("alice").await);
    server.set_clock_ahead(STEP);
    assert_eq!(bench.write("alice").await, left(0));
    wait(bench.write("alice").await);
    let ttl: i64 = server.command("PTTL portolan:quota:write:alice")[1..].parse().unwrap();
    assert!(ttl > 0 && ttl <= 86_400_000, "{ttl}");
    server.set_clock_ahead(STEP * 5);
    assert_eq!(server.command("EXISTS portolan:quota:write:alice"), ":0");
    assert_eq!(bench.write("alice").await, left(2), "never more than the budget");
}

#[tokio::test]
async fn a_clock_that_is_put_back_locks_nobody_out_for_longer_than_an_empty_budget() {
    let server = TestRedis::with_clock();
    let bench = Bench::at(&server).await;
    server.set_clock_ahead(STEP * 100);
    assert_eq!(bench.write("alice").await, left(2));
    server.set_clock_ahead(Duration::ZERO);
    assert!(wait(bench.write("alice").await) <= STEP);
    server.set_clock_ahead(STEP);
    assert_eq!(bench.write("alice").await, left(0));
}

#[tokio::test]
async fn without_the_server_reads_pass_and_writes_are_counted_here() {
    let mut server = TestRedis::new();
    let bench = Bench::at(&server).await;
    assert_eq!(bench.write("alice").await, left(2));
    server.kill();
    eventually(PATIENCE, "the loss is noticed", async || {
        bench.quota.server.connection().is_none().then_some(())
    })
    .await;
    assert_eq!(bench.quota.take(Class::Read, "alice").await, None);
    for remaining in [2, 1, 0] {
        assert_eq!(bench.write("alice").await, left(remaining));
    }
    wait(bench.write("alice").await);
    server.restart();
    eventually(PATIENCE, "it is asked again", async || {
        bench.quota.take(Class::Read, "alice").await
    })
    .await;
    assert_eq!(bench.write("alice").await, left(2), "it has forgotten who had what");
}

#[tokio::test]
async fn a_server_that_stands_still_holds_nobody_up_for_long() {
    let server = TestRedis::new();
    let mut config = QuotaConfig::new(server.address());
    config.timeout_ms = 50;
    let ctx = context();
    let quota = Quota::start(&config, &ctx).unwrap();
    let asked = async || quota.take(Class::Read, "alice").await;
    eventually(PATIENCE, "it is asked", asked).await;
    server.freeze();
    eventually(PATIENCE, "it does not answer", async || asked().await.is_none().then_some(()))
        .await;
    assert!(quota.take(Class::Write, "alice").await.is_some(), "counted here");
    server.thaw();
    eventually(PATIENCE, "it is asked again", asked).await;
    ctx.tasks.hard().cancel();
}
