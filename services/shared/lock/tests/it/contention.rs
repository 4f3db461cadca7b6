//! Many want the lock of few users; some holders stand still beyond their time. What is checked is
//! what the tokens promise: of sections that overlap, one at most commits.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use portolan_lock::{Guard, LockConfig};
use portolan_testkit::{TestDb, TestRedis, eventually};
use sqlx::PgPool;

use crate::support::{Bench, LONG, PATIENCE, three};

const ACQUISITIONS: usize = 10_000;
const WORKERS: usize = 12;
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Every so many-th holder stands still until another has taken its place.
const PAUSED: usize = 200;

/// A section that committed. It began before `opened` and ended after `closed`.
#[derive(Debug)]
struct Committed {
    user: usize,
    token: i64,
    opened: Instant,
    closed: Instant,
}

/// What the lock is about: a counter that is read and written back.
struct Resource {
    pool: PgPool,
    committed: Mutex<Vec<Committed>>,
    acquired: AtomicUsize,
    refused: AtomicUsize,
}

impl Resource {
    async fn new(pool: &PgPool) -> Self {
        sqlx::query("CREATE TABLE guarded (name text PRIMARY KEY, fence bigint, value bigint)")
            .execute(pool)
            .await
            .unwrap();
        sqlx::query("INSERT INTO guarded SELECT name, 0, 0 FROM unnest($1::text[]) AS e (name)")
            .bind(USERS.map(str::to_owned).to_vec())
            .execute(pool)
            .await
            .unwrap();
        let pool = pool.clone();
        let (acquired, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { pool, committed: Mutex::default(), acquired, refused }
    }

    /// Reads the counter, unless a larger token was seen.
    async fn open(&self, user: &str, token: i64) -> Option<i64> {
        sqlx::query_scalar(
            "UPDATE guarded SET fence = $2 WHERE name = $1 AND fence <= $2 RETURNING value",
        )
        .bind(user)
        .bind(token)
        .fetch_optional(&self.pool)
        .await
        .unwrap()
    }

    /// Writes the counter, unless a larger token was seen.
    async fn close(&self, user: &str, token: i64, value: i64) -> bool {
        let done = sqlx::query("UPDATE guarded SET value = $3 WHERE name = $1 AND fence = $2")
            .bind(user)
            .bind(token)
            .bind(value)
            .execute(&self.pool)
            .await
            .unwrap();
        done.rows_affected() == 1
    }

    async fn overtaken(&self, user: &str, token: i64) {
        eventually(PATIENCE, "another takes over", async || {
            let fence: i64 = sqlx::query_scalar("SELECT fence FROM guarded WHERE name = $1")
                .bind(user)
                .fetch_one(&self.pool)
                .await
                .unwrap();
            (fence > token).then_some(())
        })
        .await;
    }

    async fn section(&self, user: usize, guard: &Guard, paused: bool) {
        let token = guard.token();
        let Some(value) = self.open(USERS[user], token).await else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let opened = Instant::now();
        if paused {
            self.overtaken(USERS[user], token).await;
        }
        let closed = Instant::now();
        if self.close(USERS[user], token, value + 1).await {
            let section = Committed { user, token, opened, closed };
            self.committed.lock().unwrap().push(section);
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn work(bench: &Bench, resource: &Resource, worker: usize) {
    let mut turn = worker;
    let end = Instant::now() + LONG;
    loop {
        turn += 1;
        let user = turn % USERS.len();
        let purpose = format!("{worker}");
        let Ok(guard) = bench.lock.acquire(USERS[user], &purpose, 0).await else {
            assert!(Instant::now() < end, "not within {LONG:?}: {ACQUISITIONS} acquisitions");
            continue;
        };
        let number = resource.acquired.fetch_add(1, Ordering::Relaxed);
        if number >= ACQUISITIONS {
            return;
        }
        // Towards the end there may be nobody left who takes over.
        let paused = number.is_multiple_of(PAUSED) && number + 10 * PAUSED < ACQUISITIONS;
        resource.section(user, &guard, paused).await;
    }
}

fn never_at_once(mut committed: Vec<Committed>) {
    committed.sort_by_key(|section| (section.user, section.token));
    for pair in committed.windows(2) {
        let [first, second] = pair else { continue };
        if first.user == second.user {
            assert!(first.token < second.token, "{pair:?}");
            assert!(first.closed < second.opened, "both committed: {pair:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_overlapping_sections_one_at_most_commits_in_ten_thousand_acquisitions() {
    let db = TestDb::new(&[]).await;
    let resource = Resource::new(db.pool()).await;
    // No master is to be given up because the machine is busy: whoever is given up is asked again at
    // once, and makes it busier.
    let brief = |config: &mut LockConfig| {
        (config.ttl_ms, config.attempts) = (500, 20);
    };
    let bench = Bench::with(three(TestRedis::new), brief).await;
    let started = Instant::now();
    futures::future::join_all((0..WORKERS).map(|worker| work(&bench, &resource, worker))).await;
    let committed = resource.committed.into_inner().unwrap();
    let refused = resource.refused.into_inner();
    println!("{} committed, {refused} refused, {:?}", committed.len(), started.elapsed());
    assert_eq!(committed.len() + refused, ACQUISITIONS);
    let total: i64 = sqlx::query_scalar("SELECT sum(value)::bigint FROM guarded")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(total, i64::try_from(committed.len()).unwrap(), "an update was lost");
    never_at_once(committed);
    assert!(refused > 0, "nobody was overtaken, so nothing was tried");
}

/// The checker sees what it is there for.
#[test]
#[should_panic(expected = "both committed")]
fn overlapping_commits_are_noticed() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let section = |token, opened, closed| Committed {
        user: 0,
        token,
        opened: at(opened),
        closed: at(closed),
    };
    never_at_once(vec![section(1, 0, 20), section(2, 10, 30)]);
}
