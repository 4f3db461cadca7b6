//! The test kit against the test servers.
#![expect(clippy::unwrap_used, reason = "tests")]

use portolan_proto::{TOPICS, Topic};
use portolan_testkit::{TestDb, TestKafka, context, free_port};
use sqlx::{
    Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

fn migrator() -> Migrator {
    let sql = "CREATE TABLE parcel (id int)".into_sql_str();
    Migrator::with_migrations(vec![Migration::new(
        1,
        "x".into(),
        MigrationType::Simple,
        sql,
        false,
    )])
}

async fn insert(db: &TestDb) -> i64 {
    sqlx::query("INSERT INTO parcel VALUES (1)").execute(db.pool()).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM parcel").fetch_one(db.pool()).await.unwrap()
}

#[tokio::test]
async fn two_tests_with_the_same_schema_do_not_meet() {
    let migrator = migrator();
    let migrators = [&migrator];
    let (a, b) = tokio::join!(TestDb::new(&migrators), TestDb::new(&migrators));
    assert_ne!(a.url(), b.url());
    assert_eq!((insert(&a).await, insert(&b).await), (1, 1));
}

#[tokio::test]
async fn the_database_is_gone_when_the_test_is_over() {
    let db = TestDb::new(&[&migrator()]).await;
    let url = db.url().to_owned();
    PgConnection::connect(&url).await.unwrap().close().await.unwrap();
    drop(db);
    let error = PgConnection::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn what_is_produced_is_consumed_with_headers_and_in_order() {
    let kafka = TestKafka::new(&TOPICS).await;
    for payload in ["first", "second"] {
        let headers = [("ce_type", "a"), ("ce_type", "b"), ("traceparent", "")];
        kafka.produce(Topic::Order, "key", &headers, payload).await;
    }
    let records = kafka.consume_all(Topic::Order).await;
    let payloads: Vec<&[u8]> = records.iter().map(|record| record.payload.as_slice()).collect();
    assert_eq!(payloads, [&b"first"[..], b"second"]);
    assert_eq!(records[0].key, b"key");
    assert_eq!(records[0].header("ce_type"), Some("a"));
    assert_eq!(records[0].header("ce_time"), None);
    assert_eq!(records[0].headers.len(), 3);
    assert!(kafka.consume_all(Topic::Payment).await.is_empty());
}

#[tokio::test]
async fn two_tests_have_different_topics() {
    let (a, b) = (TestKafka::new(&[Topic::Order]).await, TestKafka::new(&[Topic::Order]).await);
    a.produce(Topic::Order, "key", &[], "of a").await;
    assert_eq!(a.consume_all(Topic::Order).await.len(), 1);
    assert!(b.consume_all(Topic::Order).await.is_empty());
}

#[tokio::test]
async fn the_context_has_a_port_of_its_own() {
    let ctx = context();
    let port = ctx.local_addr().unwrap().port();
    assert_ne!(port, context().local_addr().unwrap().port());
    assert_ne!(port, free_port());
    assert!(ctx.take_listener().is_ok());
}
