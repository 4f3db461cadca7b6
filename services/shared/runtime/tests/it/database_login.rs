//! Logins that change under a running process, and a start before there is any.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use portolan_kernel::{IdGen as _, RandomIds, SystemClock};
use portolan_runtime::{CheckReport, Context, DatabaseConfig, Status, database, metrics, one_line};
use portolan_testkit::{TestDb, TestMesh, context, eventually};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection, PgPool, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);
const WORKERS: usize = 6;

/// A database with logins of its own, and the file that names the one to use.
struct Logins {
    db: TestDb,
    files: TestMesh,
    prefix: String,
}

impl Logins {
    async fn new() -> Self {
        let unique = RandomIds(SystemClock).next().simple().to_string();
        let db = TestDb::new(&[]).await;
        Self { db, files: TestMesh::new(), prefix: format!("portolan_test_{unique}_") }
    }

    async fn admin(&self) -> PgConnection {
        self.db.url().parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
    }

    async fn run(&self, sql: String) {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.admin().await).await.unwrap();
    }

    fn role(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn create(&self, name: &str) {
        self.run(format!("CREATE ROLE {} LOGIN PASSWORD 'x'", self.role(name))).await;
    }

    /// What revoking a login does.
    async fn drop_role(&self, name: &str) {
        let role = self.role(name);
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ";
        self.run(format!("{kill} '{role}'")).await;
        self.run(format!("DROP ROLE IF EXISTS {role}")).await;
    }

    /// Makes the file name this login.
    fn hand_out(&self, name: &str) -> PathBuf {
        let role = self.role(name);
        self.files.file("db.json", &format!(r#"{{"username":"{role}","password":"hunter2"}}"#))
    }

    fn config(&self, credentials: PathBuf) -> DatabaseConfig {
        DatabaseConfig {
            credentials_file: Some(credentials),
            max_connections: 4,
            connect_timeout_secs: PATIENCE.as_secs(),
            ..DatabaseConfig::new(self.db.url())
        }
    }
}

/// Who queries that never stop were answered as, and what went wrong with any of them.
#[derive(Clone)]
struct Load {
    users: Arc<Mutex<Vec<String>>>,
    failures: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(ctx: &Context, pool: &PgPool) -> Self {
        let load = Self {
            users: Arc::new(Mutex::new(vec![String::new(); WORKERS])),
            failures: Arc::default(),
            stop: Arc::default(),
        };
        for worker in 0..WORKERS {
            ctx.tasks.spawn_request(load.clone().work(worker, pool.clone()));
        }
        load
    }

    async fn work(self, worker: usize, pool: PgPool) {
        while !self.stop.load(Ordering::Relaxed) {
            let user = sqlx::query_scalar("SELECT current_user::text").fetch_one(&pool).await;
            match user {
                Ok(user) => self.users.lock().unwrap()[worker] = user,
                Err(error) => self.failures.lock().unwrap().push(one_line(&error)),
            }
        }
    }

    /// Waits until each worker was last answered as `user`.
    async fn until_all_are(&self, user: &str) {
        let all = async || {
            let users = self.users.lock().unwrap();
            users.iter().all(|seen| seen == user).then_some(())
        };
        eventually(PATIENCE, &format!("every query runs as {user}"), all).await;
    }

    /// Waits for another answer to each worker.
    async fn answered_again(&self) {
        self.users.lock().unwrap().fill(String::new());
        let all = async || {
            let users = self.users.lock().unwrap();
            users.iter().all(|seen| !seen.is_empty()).then_some(())
        };
        eventually(PATIENCE, "every worker is answered again", all).await;
    }

    fn failures(&self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.failures.lock().unwrap().clone()
    }
}

/// Fails the test's last line if the process was ever unready.
fn ever_unready(ctx: &Context) -> Arc<AtomicBool> {
    let unready = Arc::new(AtomicBool::new(false));
    let (flag, mut watch) = (Arc::clone(&unready), ctx.readiness.watch());
    ctx.tasks.spawn_request(async move {
        while watch.changed().await.is_ok() {
            if !*watch.borrow_and_update() {
                flag.store(true, Ordering::Relaxed);
            }
        }
    });
    unready
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_replaced_and_revoked_and_no_query_fails() {
    let logins = Logins::new().await;
    logins.create("first").await;
    logins.create("second").await;
    let ctx = context();
    let config = logins.config(logins.hand_out("first"));
    let pool = database::open(&ctx, &config, &[]).await.unwrap();
    let unready = ever_unready(&ctx);
    let load = Load::start(&ctx, &pool);
    load.until_all_are(&logins.role("first")).await;
    logins.hand_out("second");
    load.until_all_are(&logins.role("second")).await;
    // No connection of the first login is handed out any more, so revoking it hurts nobody.
    logins.drop_role("first").await;
    load.answered_again().await;
    load.until_all_are(&logins.role("second")).await;
    assert_eq!(load.failures(), Vec::<String>::new());
    assert!(!unready.load(Ordering::Relaxed), "the watch never failed");
    pool.close().await;
    logins.drop_role("second").await;
}

#[tokio::test]
async fn a_login_that_the_server_does_not_know_is_not_taken() {
    metrics::install("test").unwrap();
    let logins = Logins::new().await;
    logins.create("first").await;
    let ctx = context();
    let config = logins.config(logins.hand_out("first"));
    let pool = database::open(&ctx, &config, &[]).await.unwrap();
    let file = logins.hand_out("second");
    let load = Load::start(&ctx, &pool);
    // Only this test hands out a login that does not exist.
    let refused = "portolan_database_login_changes_total{result=\"failed\"}";
    let counted = async || metrics::render().contains(refused).then_some(());
    eventually(PATIENCE, "the new login is tried", counted).await;
    load.answered_again().await;
    load.until_all_are(&logins.role("first")).await;
    logins.create("second").await;
    load.until_all_are(&logins.role("second")).await;
    std::fs::write(&file, r#"{"username":"#).unwrap();
    load.answered_again().await;
    load.until_all_are(&logins.role("second")).await;
    assert_eq!(load.failures(), Vec::<String>::new());
    pool.close().await;
    logins.drop_role("first").await;
    logins.drop_role("second").await;
}

fn migrator() -> Migrator {
    let sql = "CREATE TABLE one (id int)".into_sql_str();
    let migration = Migration::new(1, "step".into(), MigrationType::Simple, sql, false);
    Migrator::with_migrations(vec![migration])
}

async fn until_waiting_for(ctx: &Context, what: &str) {
    let says = async || match ctx.readiness.report().checks.get("database")? {
        CheckReport::Failed { reason } if reason.contains(what) => Some(reason.clone()),
        CheckReport::Failed { .. } | CheckReport::Ok => None,
    };
    let reason = eventually(PATIENCE, &format!("the check says {what}"), says).await;
    assert!(!reason.contains("hunter2"), "{reason}");
    assert_eq!(ctx.readiness.report().status, Status::Unready);
}

#[tokio::test]
async fn the_start_waits_for_file_login_and_schema_and_the_check_says_for_which() {
    let logins = Logins::new().await;
    let config = logins.config(logins.files.file("x", "x").with_file_name("db.json"));
    let (ctx, migrator) = (context(), migrator());
    let migrators = [&migrator];
    let opened = database::open(&ctx, &config, &migrators);
    let others = async {
        until_waiting_for(&ctx, "database.credentials_file").await;
        logins.hand_out("first");
        until_waiting_for(&ctx, &format!("role \"{}\" does not exist", logins.role("first"))).await;
        logins.create("first").await;
        until_waiting_for(&ctx, "permission denied").await;
        let reads = format!("GRANT pg_read_all_data TO {}", logins.role("first"));
        logins.run(reads).await;
        logins.run("DROP TABLE _sqlx_migrations".to_owned()).await;
        until_waiting_for(&ctx, "is at version none, needs 1: run migrate").await;
        database::migrate(logins.db.pool(), &migrators).await.unwrap();
    };
    logins.run("CREATE TABLE _sqlx_migrations (version bigint, success bool)".to_owned()).await;
    let (pool, ()) = tokio::join!(opened, others);
    assert_eq!(ctx.readiness.report().status, Status::Ready);
    pool.unwrap().close().await;
    logins.run(format!("DROP OWNED BY {}", logins.role("first"))).await;
    logins.drop_role("first").await;
}

#[tokio::test]
async fn the_wait_ends_with_one_line_that_says_what_was_missing() {
    let logins = Logins::new().await;
    // From here on there is nothing but the file that is waited for.
    tokio::time::pause();
    let start = Instant::now();
    let nowhere = logins.files.file("x", "x").with_file_name("nowhere.json");
    let config = DatabaseConfig { connect_timeout_secs: 1, ..logins.config(nowhere.clone()) };
    let error = database::open(&context(), &config, &[]).await.unwrap_err();
    let expected = format!("database.credentials_file {}: ", nowhere.display());
    let line = one_line(error.as_ref());
    assert!(line.starts_with(&expected) && !line.contains('\n'), "{line}");
    assert!(start.elapsed() <= Duration::from_secs(1), "{:?}", start.elapsed());
    tokio::time::resume();
}

#[tokio::test]
async fn credentials_that_are_none_are_not_quoted() {
    let logins = Logins::new().await;
    for content in [r#"{"username":"a","password":12345}"#, r#"{"hunter2":1}"#, "hunter2", ""] {
        let file = logins.files.file("bad.json", content);
        let config = DatabaseConfig { connect_timeout_secs: 0, ..logins.config(file) };
        let error = database::open(&context(), &config, &[]).await.unwrap_err();
        let line = one_line(error.as_ref());
        assert!(line.ends_with("not a JSON object of the texts username and password"), "{line}");
    }
}
