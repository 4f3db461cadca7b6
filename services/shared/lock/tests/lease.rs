//! The lease row against a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use std::{sync::Arc, time::Duration};

use portolan_lock::{Guard, LeaseLock, LockError, UserLock as _};
use portolan_runtime::Tasks;
use portolan_testkit::{SeqIds, TestDb, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    db: TestDb,
    lock: LeaseLock,
}

impl Bench {
    async fn new() -> Self {
        let db = TestDb::new(&[]).await;
        sqlx::query(
            "CREATE TABLE user_lock (
                 user_id text PRIMARY KEY, holder uuid NOT NULL, purpose text NOT NULL,
                 token bigint NOT NULL, expires_at timestamptz NOT NULL
             )",
        )
        .execute(db.pool())
        .await
        .unwrap();
        let ids = Arc::new(SeqIds::new());
        let lock = LeaseLock::new(db.pool().clone(), Tasks::new(), ids, Duration::from_mins(1));
        Self { db, lock }
    }

    async fn acquire(&self, purpose: &str, floor: i64) -> Result<Guard, LockError> {
        self.lock.acquire("alice", purpose, floor).await
    }

    /// As if the lease's time had passed.
    async fn run_out(&self) {
        sqlx::query("UPDATE user_lock SET expires_at = clock_timestamp()")
            .execute(self.db.pool())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn one_holder_at_a_time_and_the_others_hear_whether_it_is_about_the_same() {
    let bench = Bench::new().await;
    let held = bench.acquire("order 1", 0).await.unwrap();
    assert!(held.is_valid());
    for (purpose, same) in [("order 1", true), ("order 2", false)] {
        match bench.acquire(purpose, 0).await {
            Err(LockError::Busy { same_purpose }) => assert_eq!(same_purpose, same, "{purpose}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(bench.lock.acquire("bob", "order 1", 0).await.is_ok(), "locks are the users' own");
}

#[tokio::test]
async fn a_dropped_lock_is_free_again() {
    let bench = Bench::new().await;
    drop(bench.acquire("order 1", 0).await.unwrap());
    eventually(PATIENCE, "the lock is released", async || bench.acquire("order 2", 0).await.ok())
        .await;
}

#[tokio::test]
async fn tokens_rise_with_every_holder_and_start_from_the_floor() {
    let bench = Bench::new().await;
    let mut last = 0;
    for _ in 0..5 {
        let guard = bench.acquire("order", 0).await.unwrap();
        assert!(guard.token() > last);
        last = guard.token();
        bench.run_out().await;
    }
    // Far in the future, as a clock that was ahead would have made it.
    let floor = last + 3_600_000_000;
    assert!(bench.acquire("order", floor).await.unwrap().token() >= floor);
    bench.run_out().await;
    assert!(bench.acquire("order", 0).await.unwrap().token() > floor);
}

#[tokio::test]
async fn a_holder_whose_time_has_passed_cannot_release_its_successor() {
    let bench = Bench::new().await;
    let late = bench.acquire("order 1", 0).await.unwrap();
    bench.run_out().await;
    let _successor = bench.acquire("order 2", 0).await.unwrap();
    drop(late);
    // The late release is a statement of its own, so it is given many chances to do harm.
    for _ in 0..50 {
        assert!(matches!(bench.acquire("order 3", 0).await, Err(LockError::Busy { .. })));
    }
}

#[tokio::test]
async fn of_many_at_once_exactly_one_gets_it() {
    let bench = Bench::new().await;
    let attempts = (0..32).map(|_| bench.acquire("order", 0));
    let guards: Vec<Guard> =
        futures::future::join_all(attempts).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(guards.len(), 1);
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_no_verdict() {
    let bench = Bench::new().await;
    bench.db.pool().close().await;
    assert!(matches!(bench.acquire("order", 0).await, Err(LockError::Unavailable(_))));
}
