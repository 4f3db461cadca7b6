use portolan_notification::MIGRATOR;
use portolan_runtime::database;
use portolan_testkit::TestDb;

#[tokio::test]
async fn a_schema_that_has_outgrown_this_binary_refuses_it() {
    let migrators = [&portolan_messaging::MIGRATOR, &MIGRATOR];
    let db = TestDb::new(&migrators).await;
    database::require_schema(db.pool(), &migrators).await.unwrap();
    // As a later, contracting migration does.
    let raised = sqlx::query(
        "UPDATE schema_compatibility SET min_compatible = 30000101000000 WHERE component = $1",
    )
    .bind(MIGRATOR.table_name.as_ref())
    .execute(db.pool())
    .await
    .unwrap();
    assert_eq!(raised.rows_affected(), 1, "the row that require_schema reads");
    let refused = database::require_schema(db.pool(), &migrators).await.unwrap_err().to_string();
    assert!(refused.contains("no longer serves version"), "{refused}");
}
