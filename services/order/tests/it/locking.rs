//! What the lock of a customer buys, and that nothing is lost without it.
#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use std::time::Duration;

use futures::future::join_all;
use portolan_kernel::{ErrorCode, OrderId};
use portolan_lock::{Guard, LockConfig, Redlock};
use portolan_order::store::guards::{Opening, fence, open_orders};
use portolan_runtime::database;
use portolan_testkit::{TestDb, TestRedis, context, eventually};
use serde_json::json;
use sqlx::types::time::OffsetDateTime;

use crate::support::{Bench, PATIENCE, masters, place, request};

const HOUR: Duration = Duration::from_hours(1);

/// Places an order, and again with the same key as long as the customer is busy. Returns whether
/// it was placed or refused by the limit.
async fn insist(bench: &Bench, replica: usize, key: &str) -> bool {
    eventually(PATIENCE, "an answer", async || {
        match place(bench.client(replica), request("alice", key, "A", 1)).await {
            Ok(_) => Some(true),
            Err(error) if error.reason == "open_order_limit" => {
                assert_eq!(error.code, ErrorCode::FailedPrecondition);
                Some(false)
            }
            Err(error) => {
                assert_eq!((error.code, error.reason.as_str()), (ErrorCode::Aborted, "user_busy"));
                assert!(error.retry_after_secs.is_some());
                None
            }
        }
    })
    .await
}

/// Twelve orders at once, and three may be open.
async fn the_limit_holds(bench: Bench) {
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let attempts = keys.iter().enumerate().map(|(n, key)| insist(&bench, n % 2, key));
    let placed = join_all(attempts).await.into_iter().filter(|placed| *placed).count();
    assert_eq!(placed, 3);
    assert_eq!(bench.stats("alice").await.open, 3);
    assert_eq!(bench.count("SELECT count(*) FROM orders").await, 3);
    assert_eq!(bench.count("SELECT count(*) FROM idempotency").await, 3, "no key of a refused one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_orders_holds_with_the_lock() {
    the_limit_holds(Bench::locked(masters(), json!({ "open_order_limit": 3 }), 2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_orders_holds_without_a_lock() {
    the_limit_holds(Bench::new(json!({ "open_order_limit": 3 }), 2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_orders_holds_while_the_lock_cannot_be_reached() {
    let mut bench = Bench::locked(masters(), json!({ "open_order_limit": 3 }), 2).await;
    for master in &mut bench.masters {
        master.kill();
    }
    the_limit_holds(bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_duplicates_on_two_replicas_wait_and_get_the_same_order() {
    for masters in [masters(), Vec::new()] {
        let bench = Bench::locked(masters, json!({}), 2).await;
        let duplicates =
            (0..20).map(|n| place(bench.client(n % 2), request("alice", "same", "A", 2)));
        let answers: Vec<_> = join_all(duplicates).await.into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|answer| answer.order == answers[0].order));
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert_eq!(bench.count("SELECT count(*) FROM orders").await, 1);
        assert_eq!(bench.stats("alice").await.open, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn different_orders_of_one_customer_at_once_are_placed_or_told_to_retry() {
    let bench = Bench::locked(masters(), json!({}), 2).await;
    let keys: Vec<String> = (0..16).map(|n| format!("k{n}")).collect();
    let attempts = keys.iter().enumerate().map(|(n, key)| insist(&bench, n % 2, key));
    assert!(join_all(attempts).await.into_iter().all(|placed| placed));
    assert_eq!(bench.count("SELECT count(*) FROM orders").await, 16);
    assert_eq!(bench.stats("alice").await.orders, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn masters_that_go_and_forget_in_the_middle_change_nothing() {
    let mut bench = Bench::locked(masters(), json!({}), 2).await;
    for round in 0..6 {
        bench.masters[round % 3].kill();
        let keys: Vec<String> = (0..8).map(|n| format!("k{round}-{n}")).collect();
        let attempts = keys.iter().enumerate().map(|(n, key)| insist(&bench, n % 2, key));
        let forget = async {
            for other in [round + 1, round + 2] {
                tokio::task::yield_now().await;
                bench.masters[other % 3].command("FLUSHALL");
            }
        };
        let (placed, ()) = futures::join!(join_all(attempts), forget);
        assert!(placed.into_iter().all(|placed| placed));
        bench.masters[round % 3].restart();
    }
    assert_eq!(bench.count("SELECT count(*) FROM orders").await, 48);
    assert_eq!(bench.stats("alice").await.orders, 48);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_ahead_of_the_lock_is_caught_up_with_and_never_goes_back() {
    let masters: Vec<TestRedis> = (0..3).map(|_| TestRedis::with_clock()).collect();
    for master in &masters {
        master.set_clock_ahead(HOUR);
    }
    let bench = Bench::locked(masters, json!({}), 1).await;
    // The database sees a token of the future, if the masters were there in time.
    let ahead = eventually(PATIENCE, "a token of the future", async || {
        let key = format!("k{}", bench.count("SELECT count(*) FROM orders").await);
        bench.place("alice", &key).await.unwrap();
        let fence = bench.count("SELECT fence FROM user_guard").await;
        (fence
            > bench
                .count("SELECT (extract(epoch FROM now() + interval '30 min') * 1000000)::bigint")
                .await)
            .then_some(fence)
    })
    .await;
    for master in &bench.masters {
        master.set_clock_ahead(Duration::ZERO);
        master.command("FLUSHALL");
    }
    bench.place("alice", "after").await.unwrap();
    assert!(bench.count("SELECT fence FROM user_guard").await > ahead);
}

struct Paused {
    db: TestDb,
    lock: Redlock,
    _masters: Vec<TestRedis>,
}

impl Paused {
    async fn new() -> Self {
        let db = TestDb::new(&[&portolan_messaging::MIGRATOR, &portolan_order::MIGRATOR]).await;
        let masters = masters();
        let mut config = LockConfig::new(masters.iter().map(TestRedis::address).collect());
        (config.ttl_ms, config.instance_timeout_ms, config.budget_ms) = (1_000, 300, 20_000);
        let lock = Redlock::start(&context(), &config).unwrap();
        eventually(PATIENCE, "connections", async || (lock.reachable() == 3).then_some(())).await;
        Self { db, lock, _masters: masters }
    }

    async fn acquired(&self, purpose: &str) -> Guard {
        eventually(PATIENCE, "the lock is free", async || {
            self.lock.acquire("alice", purpose, 0).await.ok()
        })
        .await
    }

    /// What the placement transaction does with the holder's token. Returns whether it was let in,
    /// and the fence.
    async fn write(&self, guard: &Guard, order: u128) -> (bool, i64) {
        let order_id = OrderId(uuid::Uuid::from_u128(order)).0;
        let opening = Opening { user_id: "alice".to_owned(), token: Some(guard.token()), order_id };
        let mut tx = database::begin(self.db.pool()).await.unwrap();
        let at = OffsetDateTime::UNIX_EPOCH;
        let opened = open_orders(&mut tx, &[opening], 0, at).await.unwrap();
        let fence = fence(&mut tx, "alice").await.unwrap();
        tx.commit().await.unwrap();
        (opened == ["alice"], fence)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_stood_still_beyond_its_time_is_refused_by_the_fence() {
    let bench = Paused::new().await;
    let late = bench.acquired("order 1").await;
    eventually(PATIENCE, "its time is over", async || (!late.is_valid()).then_some(())).await;
    let successor = bench.acquired("order 2").await;
    assert_eq!(bench.write(&successor, 2).await, (true, successor.token()));
    assert_eq!(bench.write(&late, 1).await, (false, successor.token()));
    let orders: i64 = sqlx::query_scalar("SELECT orders FROM user_guard")
        .fetch_one(bench.db.pool())
        .await
        .unwrap();
    assert_eq!(orders, 1);
}
