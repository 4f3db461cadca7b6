use std::{borrow::Cow, time::Duration};

use portolan_runtime::{Context, DatabaseConfig, Status, database, one_line};
use portolan_testkit::{TestDb, context, eventually, free_port};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn migrator(table: &'static str, statements: &[(i64, &'static str)]) -> Migrator {
    let migration = |(version, sql): &(i64, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(*version, "step".into(), kind, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(statements.iter().map(migration).collect());
    migrator.table_name = Cow::Borrowed(table);
    migrator
}

const FIRST: (i64, &str) = (1, "CREATE TABLE one (id int)");
const SECOND: (i64, &str) = (2, "CREATE TABLE two (id int)");

#[tokio::test]
async fn connections_have_the_limits_and_the_name() {
    let db = TestDb::new(&[]).await;
    let config = DatabaseConfig { statement_timeout_ms: 1234, ..db.config() };
    let pool = database::connect(&context(), &config).await.unwrap();
    let show = async |name: &'static str| -> String {
        sqlx::query_scalar(name).fetch_one(&pool).await.unwrap()
    };
    assert_eq!(show("SHOW statement_timeout").await, "1234ms");
    assert_eq!(show("SHOW idle_in_transaction_session_timeout").await, "30s");
    assert!(show("SHOW application_name").await.eq("portolan-test"));
}

/// Why there is no way into the database.
async fn refusal(config: &DatabaseConfig) -> String {
    let connected = timeout(PATIENCE, database::connect(&context(), config)).await;
    one_line(connected.unwrap().unwrap_err().as_ref())
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_without_the_password() {
    let port = free_port();
    let url = format!("postgres://portolan:hunter2@127.0.0.1:{port}/shop");
    let config = DatabaseConfig { connect_timeout_secs: 1, ..DatabaseConfig::new(url) };
    let line = refusal(&config).await;
    let place = format!("cannot connect to database 127.0.0.1:{port}/shop: ");
    assert!(line.starts_with(&place), "{line}");
    assert!(line.contains("refused") && !line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn a_database_that_does_not_exist_fails_without_waiting() {
    let db = TestDb::new(&[]).await;
    let url = format!("{}_not", db.url());
    let config = DatabaseConfig { connect_timeout_secs: 3_600, ..DatabaseConfig::new(url) };
    let line = refusal(&config).await;
    assert!(line.contains("does not exist"), "{line}");
}

/// A way to the database, as its URL. `carry` is given every connection with its number, from 1, and
/// the server's own address.
pub(crate) async fn way<F>(
    ctx: &Context,
    db: &TestDb,
    carry: impl Fn(u32, TcpStream, String) -> F + Send + Sync + 'static,
) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let server: PgConnectOptions = db.url().parse().unwrap();
    let server = format!("{}:{}", server.get_host(), server.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = db.url().replace(&server, &listener.local_addr().unwrap().to_string());
    assert_ne!(url, db.url());
    let tasks = ctx.tasks.clone();
    ctx.tasks.spawn_request(async move {
        for number in 1.. {
            let (client, _) = listener.accept().await.unwrap();
            tasks.spawn_request(carry(number, client, server.clone()));
        }
    });
    url
}

/// Carries until one of them ends it.
pub(crate) async fn carry(mut client: TcpStream, server: String) {
    let mut server = TcpStream::connect(&server).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// On which the second connection is lost.
async fn loses_the_second(ctx: &Context, db: &TestDb) -> String {
    way(ctx, db, |number, client, server| async move {
        if number != 2 {
            carry(client, server).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_start_that_loses_the_pools_first_connection_tries_again() {
    let db = TestDb::new(&[]).await;
    let ctx = context();
    // The first one only finds out whether there is a way in.
    let config = DatabaseConfig {
        connect_timeout_secs: PATIENCE.as_secs(),
        ..DatabaseConfig::new(loses_the_second(&ctx, &db).await)
    };
    let pool = database::connect(&ctx, &config).await.unwrap();
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
}

#[tokio::test]
async fn a_contracted_schema_refuses_the_binaries_it_has_outgrown() {
    let db = TestDb::new(&[]).await;
    let contract = "CREATE TABLE schema_compatibility (component text, min_compatible bigint);
                    INSERT INTO schema_compatibility VALUES ('_one', 2)";
    let old = migrator("_one", &[FIRST]);
    let new = migrator("_one", &[FIRST, SECOND, (3, contract)]);
    database::migrate(db.pool(), &[&new]).await.unwrap();
    database::require_schema(db.pool(), &[&new]).await.unwrap();
    let refused = database::require_schema(db.pool(), &[&old]).await.unwrap_err().to_string();
    assert!(refused.ends_with("no longer serves version 1, only 2 and newer"), "{refused}");
}

#[tokio::test]
async fn the_schema_of_every_migrator_is_required() {
    let db = TestDb::new(&[]).await;
    let old = migrator("_one", &[FIRST]);
    let new = migrator("_one", &[FIRST, SECOND]);
    let other = migrator("_other", &[(7, "CREATE TABLE seven (id int)")]);
    let needs = async |migrators: &[&Migrator]| {
        database::require_schema(db.pool(), migrators).await.map_err(|error| error.to_string())
    };
    let none = needs(&[&old]).await.unwrap_err();
    assert!(none.ends_with("is at version none, needs 1: run migrate"), "{none}");
    database::migrate(db.pool(), &[&old]).await.unwrap();
    needs(&[&old]).await.unwrap();
    let behind = needs(&[&new]).await.unwrap_err();
    assert!(behind.ends_with("is at version 1, needs 2: run migrate"), "{behind}");
    database::migrate(db.pool(), &[&new, &other]).await.unwrap();
    needs(&[&new, &other]).await.unwrap();
    needs(&[&old]).await.expect("a newer schema serves an older binary");
    database::migrate(db.pool(), &[&new, &other]).await.expect("migrating twice changes nothing");
}

#[tokio::test]
async fn two_migrations_at_once_both_succeed() {
    let db = TestDb::new(&[]).await;
    let migrator = migrator("_one", &[FIRST, SECOND]);
    let migrators = [&migrator];
    let (a, b) = tokio::join!(
        database::migrate(db.pool(), &migrators),
        database::migrate(db.pool(), &migrators),
    );
    a.and(b).unwrap();
}

#[tokio::test]
async fn the_check_follows_the_database_down_and_up_again() {
    let db = TestDb::new(&[]).await;
    let ctx = context();
    database::watch(&ctx, db.pool()).await;
    assert_eq!(ctx.readiness.report().status, Status::Ready);
    for (allowed, wanted) in [(false, Status::Unready), (true, Status::Ready)] {
        allow_connections(&db, allowed).await;
        let probe = async || (ctx.readiness.report().status == wanted).then_some(());
        eventually(PATIENCE, &format!("the process is {wanted:?}"), probe).await;
    }
}

#[tokio::test]
async fn a_busy_pool_is_no_reason_to_be_unready() {
    let db = TestDb::new(&[]).await;
    let pool = database::connect(&context(), &DatabaseConfig { max_connections: 1, ..db.config() })
        .await
        .unwrap();
    let _all_of_it = pool.acquire().await.unwrap();
    let ctx = context();
    database::watch(&ctx, &pool).await;
    assert_eq!(ctx.readiness.report().status, Status::Ready);
}

/// What a database server that goes away looks like for one database of it.
async fn allow_connections(db: &TestDb, allowed: bool) {
    let (base, name) = db.url().rsplit_once('/').unwrap();
    let mut admin = PgConnection::connect(&format!("{base}/postgres")).await.unwrap();
    let alter = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
    sqlx::query(AssertSqlSafe(alter)).execute(&mut admin).await.unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sqlx::query(kill).bind(name).execute(&mut admin).await.unwrap();
}

#[tokio::test]
async fn transient_is_what_may_succeed_later_without_a_change() {
    let db = TestDb::new(&[]).await;
    let config = DatabaseConfig { statement_timeout_ms: 50, ..db.config() };
    let pool = database::connect(&context(), &config).await.unwrap();
    let failure = async |sql: &'static str| sqlx::query(sql).execute(&pool).await.unwrap_err();
    assert!(database::is_transient(&failure("SELECT pg_sleep(5)").await), "statement timeout");
    let serialization = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$";
    assert!(database::is_transient(&failure(serialization).await), "serialization");
    assert!(!database::is_transient(&failure("SELECT 1 / 0").await), "division by zero");
    assert!(!database::is_transient(&failure("SELECT FROM nothing").await), "no such table");
    let gone = failure("SELECT pg_terminate_backend(pg_backend_pid())").await;
    assert!(database::is_transient(&gone), "connection lost: {gone}");
}
