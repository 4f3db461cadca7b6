use std::time::Duration;

use portolan_lock::{Guard, LockError};
use portolan_testkit::{TestRedis, eventually};

use crate::support::{BUSY, Bench, PATIENCE, three};

#[tokio::test]
async fn one_holder_at_a_time_and_the_others_hear_whether_it_is_about_the_same() {
    let bench = Bench::new().await;
    let held = bench.acquire("order: 1").await.unwrap();
    assert!(held.is_valid());
    let twin = bench.acquire("order: 1").await.unwrap_err();
    assert_eq!(twin, LockError::Busy { same_purpose: true });
    assert_eq!(bench.acquire("order: 2").await.unwrap_err(), BUSY);
    assert!(bench.lock.acquire("bob", "order: 1", 0).await.is_ok(), "locks are the users' own");
}

#[tokio::test]
async fn a_dropped_lock_is_free_again_on_all_masters() {
    let bench = Bench::new().await;
    let held = bench.acquire("order 1").await.unwrap();
    bench.becomes_held(3).await;
    drop(held);
    bench.becomes_held(0).await;
}

#[tokio::test]
async fn a_released_lock_is_free_at_once_and_is_not_valid_any_more() {
    let bench = Bench::new().await;
    let held = bench.acquire("order 1").await.unwrap();
    held.release().await;
    assert!(!held.is_valid());
    assert!(!held.extend().await);
    assert_eq!(bench.held(), 0);
}

#[tokio::test]
async fn tokens_rise_with_every_holder_and_start_from_the_floor() {
    let bench = Bench::new().await;
    let mut last = 0;
    for _ in 0..5 {
        let guard = bench.acquired("order").await;
        assert!(guard.token() > last);
        last = guard.token();
    }
    // Far in the future, as a clock that was ahead would have made it.
    let floor = last + 3_600_000_000;
    bench.becomes_held(0).await;
    let raised = bench.lock.acquire("alice", "order", floor).await.unwrap();
    assert!(raised.token() >= floor);
    raised.release().await;
    assert!(bench.acquire("order").await.unwrap().token() > floor);
    assert_eq!(
        bench.lock.acquire("carol", "order", i64::MAX).await.unwrap_err(),
        LockError::Unavailable,
        "no master could count on from there"
    );
}

#[tokio::test]
async fn a_token_is_remembered_by_a_majority_before_it_is_used() {
    let bench = Bench::new().await;
    // As if this master alone had seen a large token before.
    let ahead = 4_000_000_000_000_000;
    bench.servers[0].command(&format!("SET portolan:fence:alice {ahead}"));
    let guard = eventually(PATIENCE, "its vote is in the majority", async || {
        let guard = bench.acquired("order").await;
        if guard.token() > ahead {
            return Some(guard);
        }
        guard.release().await;
        None
    })
    .await;
    let least = |answer: &String| {
        let fence: i64 = answer.lines().last().unwrap().parse().unwrap();
        fence >= guard.token()
    };
    let fences = bench.command("GET portolan:fence:alice");
    assert!(fences.iter().filter(|fence| least(fence)).count() >= 2, "{fences:?}");
}

#[tokio::test]
async fn a_holder_whose_time_has_passed_cannot_release_its_successor() {
    let bench = Bench::new().await;
    let late = bench.acquire("order 1").await.unwrap();
    bench.becomes_held(3).await;
    bench.command("DEL portolan:lock:alice");
    let _successor = bench.acquire("order 2").await.unwrap();
    bench.becomes_held(3).await;
    late.release().await;
    assert_eq!(bench.held(), 3);
}

#[tokio::test]
async fn of_many_at_once_one_at_most_gets_it_and_the_others_leave_nothing() {
    let bench = Bench::new().await;
    let attempts = (0..32).map(|n| {
        let purpose = format!("order {n}");
        let bench = &bench;
        async move { bench.acquire(&purpose).await }
    });
    let outcomes = futures::future::join_all(attempts).await;
    let guards: Vec<Guard> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert!(guards.len() <= 1);
    drop(guards);
    bench.becomes_held(0).await;
}

#[tokio::test]
async fn who_stops_waiting_for_the_lock_leaves_nothing_behind() {
    let bench = Bench::new().await;
    bench.servers[0].freeze();
    bench.servers[1].freeze();
    let asking = bench.acquire("order 1");
    assert!(tokio::time::timeout(Duration::from_millis(200), asking).await.is_err());
    bench.servers[0].thaw();
    bench.servers[1].thaw();
    bench.becomes_held(0).await;
    assert!(bench.acquired("order 2").await.is_valid());
}

#[tokio::test]
async fn an_extension_begins_the_time_anew_if_a_majority_still_knows_the_holder() {
    let bench = Bench::new().await;
    let held = bench.acquire("order").await.unwrap();
    bench.becomes_held(3).await;
    bench.command("PEXPIRE portolan:lock:alice 60000");
    bench.servers[2].command("DEL portolan:lock:alice");
    assert!(held.extend().await);
    let times = bench.command("PTTL portolan:lock:alice");
    assert_eq!(times[2], ":-2", "what is lost is not made again: {times:?}");
    let longer = |time: &&String| time[1..].parse::<i64>().unwrap() > 60_000;
    assert_eq!(times.iter().filter(longer).count(), 2, "{times:?}");
}

#[tokio::test]
async fn an_extension_without_a_majority_is_none_and_makes_no_key() {
    let bench = Bench::new().await;
    let held = bench.acquire("order").await.unwrap();
    bench.becomes_held(3).await;
    bench.command("FLUSHALL");
    assert!(!held.extend().await);
    assert_eq!(bench.held(), 0);
}

#[tokio::test]
async fn what_has_run_out_is_not_extended_even_if_the_masters_would() {
    let short = |config: &mut portolan_lock::LockConfig| {
        (config.ttl_ms, config.instance_timeout_ms) = (3_000, 900);
    };
    let bench = Bench::with(three(TestRedis::new), short).await;
    let held = bench.acquired("order").await;
    bench.becomes_held(3).await;
    bench.command("PERSIST portolan:lock:alice");
    eventually(PATIENCE, "its time is over", async || (!held.is_valid()).then_some(())).await;
    assert_eq!(bench.held(), 3);
    assert!(!held.extend().await);
}

#[tokio::test]
async fn a_lock_is_held_for_as_long_as_the_work_takes() {
    let short = |config: &mut portolan_lock::LockConfig| {
        (config.ttl_ms, config.instance_timeout_ms) = (6_000, 900);
    };
    let bench = Bench::with(three(TestRedis::new), short).await;
    let held = bench.acquired("order").await;
    // One and a half times its time.
    let work = tokio::time::sleep(Duration::from_secs(9));
    held.while_running(work).await;
    assert!(held.is_valid());
    assert_eq!(bench.acquire("another").await.unwrap_err(), BUSY);
}
