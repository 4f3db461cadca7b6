use std::time::Duration;

use portolan_lock::{LockConfig, LockError};
use portolan_testkit::{TestRedis, eventually};

use crate::support::{BUSY, Bench, LONG, PATIENCE, three};

const HOUR: Duration = Duration::from_hours(1);

/// With masters that are given up after a short while.
fn brisk(config: &mut LockConfig) {
    (config.instance_timeout_ms, config.budget_ms) = (500, 5_000);
}

#[tokio::test]
async fn one_master_down_is_not_noticed() {
    let mut bench = Bench::new().await;
    bench.servers[1].kill();
    let mut last = 0;
    for _ in 0..20 {
        let guard = bench.acquired("order").await;
        assert!(guard.token() > last);
        last = guard.token();
        assert_eq!(bench.acquire("another").await.unwrap_err(), BUSY);
        guard.release().await;
    }
}

#[tokio::test]
async fn nobody_waits_for_a_master_that_stands_still_and_it_keeps_nothing() {
    // It would be waited for longer than the test waits.
    let slow = |config: &mut LockConfig| {
        (config.instance_timeout_ms, config.budget_ms) = (180_000, 180_000);
    };
    let bench = Bench::with(three(TestRedis::new), slow).await;
    bench.servers[0].freeze();
    let taken = tokio::time::timeout(PATIENCE, async {
        let guard = bench.acquired("order").await;
        assert!(guard.extend().await);
        guard
    });
    let guard = taken.await.unwrap();
    bench.servers[0].thaw();
    bench.becomes_held(3).await;
    drop(guard);
    bench.becomes_held(0).await;
}

#[tokio::test]
async fn what_a_master_took_too_late_is_released_there_as_well() {
    let bench = Bench::with(three(TestRedis::new), brisk).await;
    bench.servers[0].freeze();
    let guard = bench.acquired("order").await;
    guard.release().await;
    bench.servers[0].thaw();
    bench.becomes_held(0).await;
}

#[tokio::test]
async fn what_a_master_was_asked_before_it_was_given_up_is_released_when_it_goes_on() {
    let bench = Bench::with(three(TestRedis::new), brisk).await;
    bench.servers[0].freeze();
    let guard = bench.acquired("order").await;
    bench.reaches(2).await;
    drop(guard);
    bench.servers[0].thaw();
    bench.reaches(3).await;
    bench.becomes_held(0).await;
}

#[tokio::test]
async fn with_two_masters_down_nobody_can_tell_until_one_is_back() {
    let mut bench = Bench::with(three(TestRedis::new), brisk).await;
    bench.servers[0].kill();
    bench.servers[2].kill();
    assert_eq!(bench.acquire("order").await.unwrap_err(), LockError::Unavailable);
    eventually(PATIENCE, "the third keeps nothing", async || {
        let left = bench.servers[1].command("EXISTS portolan:lock:alice");
        (left == ":0").then_some(())
    })
    .await;
    bench.servers[0].restart();
    assert!(bench.acquired("order").await.is_valid());
}

#[tokio::test]
async fn with_two_masters_standing_still_nobody_can_tell() {
    let bench = Bench::with(three(TestRedis::new), brisk).await;
    bench.servers[0].freeze();
    bench.servers[1].freeze();
    assert_eq!(bench.acquire("order").await.unwrap_err(), LockError::Unavailable);
    bench.servers[0].thaw();
    bench.servers[1].thaw();
    assert!(bench.acquired("order").await.is_valid());
}

#[tokio::test]
async fn masters_that_forget_give_the_lock_twice_but_never_a_smaller_token() {
    let bench = Bench::new().await;
    let first = bench.acquire("order 1").await.unwrap();
    bench.becomes_held(3).await;
    bench.command("FLUSHALL");
    let second = bench.acquire("order 2").await.unwrap();
    assert!(first.is_valid() && second.is_valid(), "which is why the token is checked");
    assert!(second.token() > first.token());
}

#[tokio::test]
async fn one_clock_that_jumps_ahead_ends_the_lock_on_one_master_only() {
    let bench = Bench::with(three(TestRedis::with_clock), |_| ()).await;
    let first = bench.acquire("order 1").await.unwrap();
    bench.becomes_held(3).await;
    bench.servers[0].set_clock_ahead(LONG + HOUR);
    bench.becomes_held(2).await;
    assert_eq!(bench.acquire("order 2").await.unwrap_err(), BUSY);
    first.release().await;
    // Whether the hurried master is in the majority or not, and after it is set right again.
    let mut last = first.token();
    for ahead in [HOUR, Duration::ZERO] {
        bench.servers[0].set_clock_ahead(ahead);
        for _ in 0..10 {
            let guard = bench.acquired("order").await;
            assert!(guard.token() > last);
            last = guard.token();
            guard.release().await;
        }
    }
}

#[tokio::test]
async fn tokens_from_the_future_are_caught_up_with_by_their_floor_after_all_is_forgotten() {
    let bench = Bench::with(three(TestRedis::with_clock), |_| ()).await;
    for server in &bench.servers {
        server.set_clock_ahead(HOUR);
    }
    let future = bench.acquire("order 1").await.unwrap();
    future.release().await;
    for server in &bench.servers {
        server.set_clock_ahead(Duration::ZERO);
    }
    bench.command("FLUSHALL");
    let behind = bench.acquire("order 2").await.unwrap();
    assert!(behind.token() < future.token(), "the one thing that masters alone cannot do");
    behind.release().await;
    let floor = future.token() + 1;
    let caught_up = bench.lock.acquire("alice", "order 2", floor).await.unwrap();
    assert!(caught_up.token() >= floor);
    caught_up.release().await;
    assert!(bench.acquire("order 3").await.unwrap().token() > floor);
}
