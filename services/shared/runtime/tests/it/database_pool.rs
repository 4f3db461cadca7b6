//! What the next user of a connection finds, however the last one left it.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use portolan_runtime::{Context, DatabaseConfig, database, deadline::within};
use portolan_testkit::{PATIENCE, TestDb, context, eventually};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::database::{carry, way};

const HOUR: Duration = Duration::from_hours(1);
const SERVER: &str = "SELECT pg_backend_pid()";

async fn pool(config: DatabaseConfig, statement_timeout: Duration) -> PgPool {
    let statement_timeout_ms = u64::try_from(statement_timeout.as_millis()).unwrap();
    let config = DatabaseConfig { statement_timeout_ms, max_connections: 1, ..config };
    database::connect(&context(), &config).await.unwrap()
}

/// Polls the work so often and then gives it up, if it is not done before.
async fn given_up<T>(mut polls: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(move |cx| match (work.as_mut().poll(cx), polls.checked_sub(1)) {
        (Poll::Ready(done), _) => Poll::Ready(Some(done)),
        (Poll::Pending, None | Some(0)) => Poll::Ready(None),
        (Poll::Pending, Some(left)) => {
            polls = left;
            Poll::Pending
        }
    })
    .await
}

/// Gives the work up at its first, second, ... wait until it is done without one, each time with a
/// pool of one connection, and looks at what the next user of that connection finds.
async fn at_every_wait<T>(work: impl AsyncFn(&PgPool) -> T) {
    let db = TestDb::new(&[]).await;
    let pool = pool(db.config(), HOUR).await;
    for polls in 1.. {
        let done = given_up(polls, Box::pin(work(&pool))).await.is_some();
        let mut next = pool.acquire().await.unwrap();
        let mut found = Vec::new();
        for _ in 0..2 {
            let state = "SELECT pg_current_xact_id()::text, current_setting('statement_timeout')";
            let state: (String, String) =
                sqlx::query_as(state).fetch_one(&mut *next).await.unwrap();
            found.push(state);
        }
        assert_ne!(found[0].0, found[1].0, "given up after {polls}: in a transaction");
        assert_eq!(found[0].1, "1h", "given up after {polls}: the limit of another");
        if done {
            return;
        }
    }
}

#[tokio::test]
async fn a_transaction_given_up_at_any_point_leaves_its_connection_as_it_was() {
    at_every_wait(async |pool| {
        let mut tx = database::begin(pool).await.unwrap();
        sqlx::query("SELECT pg_sleep(0.01)").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_read_given_up_at_any_point_leaves_its_connection_as_it_was() {
    at_every_wait(async |pool| {
        let read = async {
            let mut connection = database::acquire(pool).await.unwrap();
            sqlx::query("SELECT pg_sleep(0.01)").execute(&mut *connection).await.unwrap();
        };
        within(HOUR / 2, read).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_connection_of_a_statement_that_was_abandoned_and_cancelled_is_used_again() {
    let db = TestDb::new(&[]).await;
    let pool = pool(db.config(), Duration::from_millis(200)).await;
    let mut first = database::acquire(&pool).await.unwrap();
    let before: i32 = sqlx::query_scalar(SERVER).fetch_one(&mut *first).await.unwrap();
    let sleep = sqlx::query("SELECT pg_sleep(3600)").execute(&mut *first);
    assert!(timeout(Duration::from_millis(50), sleep).await.is_err());
    drop(first);
    let after: i32 = sqlx::query_scalar(SERVER).fetch_one(&pool).await.unwrap();
    assert_eq!(after, before);
}

/// A way to the database that loses what is sent on the first connections once it is told to, and
/// says nothing of it: a router that has forgotten them, or a node that is gone.
async fn forgetful(ctx: &Context, db: &TestDb, forget: CancellationToken) -> DatabaseConfig {
    let url = way(ctx, db, move |_, client, server| {
        let forget = if forget.is_cancelled() { CancellationToken::new() } else { forget.clone() };
        async move {
            // What is not carried on any more is not closed either.
            let mut carried = pin!(carry(client, server));
            if forget.run_until_cancelled(carried.as_mut()).await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    });
    DatabaseConfig::new(url.await)
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_heard_any_more_does_not_keep_its_place_in_the_pool() {
    let db = TestDb::new(&[]).await;
    let ctx = context();
    let forget = CancellationToken::new();
    let way = forgetful(&ctx, &db, forget.clone()).await;
    let pool = pool(way, Duration::from_millis(200)).await;
    let mut held = database::acquire(&pool).await.unwrap();
    sqlx::query(SERVER).execute(&mut *held).await.unwrap();
    forget.cancel();
    let query = sqlx::query(SERVER).execute(&mut *held);
    assert!(timeout(Duration::from_millis(50), query).await.is_err());
    drop(held);
    let next = async || sqlx::query(SERVER).execute(&pool).await.ok();
    eventually(PATIENCE, "a connection", next).await;
}
