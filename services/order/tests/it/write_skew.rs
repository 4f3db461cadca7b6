//! For docs/patterns/write-skew.md: the same two transactions, at the same pace, with a naive check
//! and with the guard row.
#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use portolan_order::store::guards::{Opening, open_orders};
use portolan_runtime::database;
use portolan_testkit::{PATIENCE, TestDb, eventually};
use sqlx::{PgPool, Postgres, Transaction, types::time::OffsetDateTime};
use uuid::Uuid;

const LIMIT: i32 = 3;

async fn shop() -> TestDb {
    TestDb::new(&[&portolan_messaging::MIGRATOR, &portolan_order::MIGRATOR]).await
}

async fn open(conn: &mut sqlx::PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM orders WHERE user_id = 'alice' AND state = 'PENDING'")
        .fetch_one(conn)
        .await
        .unwrap()
}

async fn insert(conn: &mut sqlx::PgConnection, number: u128) {
    sqlx::query(
        "INSERT INTO orders (id, user_id, idempotency_key, fingerprint, state, amount_minor,
             currency, lines, version, deadline, traceparent, created_at, updated_at)
         VALUES ($1, 'alice', $1::text, '', 'PENDING', 1, 'GBP', '[]', 1, now(), '', now(), now())",
    )
    .bind(Uuid::from_u128(number))
    .execute(conn)
    .await
    .unwrap();
}

/// Counts, and says whether one more is allowed.
async fn naive_check(tx: &mut Transaction<'_, Postgres>) -> bool {
    open(tx).await < i64::from(LIMIT)
}

async fn guarded_check(tx: &mut Transaction<'_, Postgres>, number: u128) -> bool {
    let order_id = Uuid::from_u128(number);
    let opening = Opening { user_id: "alice".to_owned(), token: None, order_id };
    let at = OffsetDateTime::UNIX_EPOCH;
    open_orders(tx, &[opening], LIMIT, at).await.unwrap() == ["alice"]
}

async fn place_guarded(pool: &PgPool, number: u128) -> bool {
    let mut tx = database::begin(pool).await.unwrap();
    let allowed = guarded_check(&mut tx, number).await;
    if allowed {
        insert(&mut tx, number).await;
    }
    tx.commit().await.unwrap();
    allowed
}

#[tokio::test]
async fn counting_and_then_inserting_lets_two_take_the_last_place() {
    let db = shop().await;
    for number in 1..3 {
        insert(&mut db.pool().acquire().await.unwrap(), number).await;
    }
    let (mut one, mut other) =
        (database::begin(db.pool()).await.unwrap(), database::begin(db.pool()).await.unwrap());
    assert!(naive_check(&mut one).await);
    assert!(naive_check(&mut other).await, "neither sees what the other is about to do");
    insert(&mut one, 3).await;
    insert(&mut other, 4).await;
    one.commit().await.unwrap();
    other.commit().await.unwrap();
    let now = open(&mut db.pool().acquire().await.unwrap()).await;
    assert_eq!(now, i64::from(LIMIT) + 1, "nothing stopped them");
}

#[tokio::test]
async fn the_row_of_the_customer_lets_one_take_the_last_place_and_the_other_wait_and_see_it() {
    let db = shop().await;
    for number in 1..3 {
        assert!(place_guarded(db.pool(), number).await);
    }
    let mut one = database::begin(db.pool()).await.unwrap();
    assert!(guarded_check(&mut one, 3).await);
    let finish = async {
        eventually(PATIENCE, "the other waits for the row", async || {
            (waiting(db.pool()).await == 1).then_some(())
        })
        .await;
        insert(&mut one, 3).await;
        one.commit().await.unwrap();
    };
    let (other, ()) = futures::join!(place_guarded(db.pool(), 4), finish);
    assert!(!other, "it was told the truth after it had waited");
    assert_eq!(open(&mut db.pool().acquire().await.unwrap()).await, i64::from(LIMIT));
}

/// How many of this database's connections wait for a lock.
async fn waiting(pool: &PgPool) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE wait_event_type = 'Lock' AND datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}
