#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use crate::{
    roles::{self, READER},
    support::Shop,
};

/// The SQLSTATE that a statement fails with.
async fn refusal(pool: &PgPool, sql: &'static str) -> Option<String> {
    let error = pool.execute(sql).await.unwrap_err();
    let error = error.as_database_error()?;
    Some(error.code()?.into_owned())
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";

#[tokio::test]
async fn a_service_can_create_change_or_drop_no_table_and_yet_gets_its_partitions() {
    let shop = Shop::new().await;
    for ddl in [
        "CREATE TABLE mine (n int)",
        "CREATE TEMPORARY TABLE outbox (n int)",
        "ALTER TABLE outbox ADD COLUMN n int",
        "DROP TABLE inbox_default",
        "TRUNCATE inbox",
        "ALTER FUNCTION maintain_partitions(integer) SECURITY INVOKER",
    ] {
        assert_eq!(
            refusal(shop.pool(), ddl).await.as_deref(),
            Some(INSUFFICIENT_PRIVILEGE),
            "{ddl}"
        );
    }
    // More days than the migration made partitions for, and then fewer.
    let partitions = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('inbox'::regclass, 'event_log'::regclass)";
        sqlx::query_scalar(sql).fetch_one(shop.pool()).await.unwrap()
    };
    let before = partitions().await;
    shop.pool().execute("SELECT maintain_partitions(30)").await.unwrap();
    assert_eq!(partitions().await, before + 2 * 16);
    shop.pool().execute("SELECT maintain_partitions(14)").await.unwrap();
    assert_eq!(partitions().await, before);
}

#[tokio::test]
async fn partitions_made_for_a_service_are_its_to_read_and_write() {
    let shop = Shop::new().await;
    shop.pool().execute("SELECT maintain_partitions(30)").await.unwrap();
    let new: String = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits
         WHERE inhparent = 'inbox'::regclass ORDER BY 1 LIMIT 1",
    )
    .fetch_one(shop.pool())
    .await
    .unwrap();
    let day = new.strip_prefix("inbox_").unwrap();
    let through_the_parent = format!(
        "INSERT INTO inbox (grp, event_day, event_id) VALUES (1, '{day}', gen_random_uuid());
         UPDATE inbox SET status = 'dead' WHERE event_day = '{day}'"
    );
    shop.pool().execute(AssertSqlSafe(through_the_parent)).await.unwrap();
    let directly = format!("DELETE FROM {new}");
    let deleted = shop.pool().execute(AssertSqlSafe(directly)).await.unwrap();
    assert_eq!(deleted.rows_affected(), 1, "the row is in the new partition");
}

#[tokio::test]
async fn who_may_only_read_cannot_have_partitions_dropped() {
    let shop = Shop::new().await;
    let reader = roles::config(&shop.db, READER);
    let reader = portolan_runtime::database::connect(&shop.ctx, &reader).await.unwrap();
    reader.execute("SELECT * FROM event_log").await.unwrap();
    for sql in ["SELECT maintain_partitions(0)", "DELETE FROM inbox"] {
        assert_eq!(refusal(&reader, sql).await.as_deref(), Some(INSUFFICIENT_PRIVILEGE), "{sql}");
    }
}
