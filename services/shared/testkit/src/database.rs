use std::{
    str::FromStr as _,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use portolan_kernel::{Clock as _, SystemClock};
use portolan_runtime::{Context, DatabaseConfig, database};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _,
    migrate::Migrator, postgres::PgConnectOptions,
};
use tokio::sync::OnceCell;

use crate::server;

const VARIABLE: &str = "PORTOLAN_TEST_DATABASE_URL";
const PREFIX: &str = "portolan_test_";
/// Databases of tests that were killed are dropped by a later run.
const STALE: Duration = Duration::from_hours(1);

static COUNT: AtomicU32 = AtomicU32::new(0);
static SWEPT: OnceCell<()> = OnceCell::const_new();

/// A database of its own for one test, with the schema of the given migrators, dropped at the end.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    url: String,
    pool: PgPool,
}

impl TestDb {
    /// Creates the database: a copy of a template that the first test with these migrations makes.
    pub async fn new(migrators: &[&Migrator]) -> Self {
        let mut admin = connect(&server(VARIABLE)).await;
        SWEPT.get_or_init(async || sweep(&mut admin).await).await;
        let template = template(&mut admin, migrators).await;
        let name = unique_name();
        run(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = url_of(&name);
        let config = DatabaseConfig::new(url.clone());
        let pool = database::connect(&Context::new("test", None), &config).await;
        Self { name, url, pool: pool.expect("the test's database takes connections") }
    }

    /// A pool of eight connections.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// For a process or a second pool.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The configuration section that leads to this database.
    pub fn config(&self) -> DatabaseConfig {
        DatabaseConfig::new(self.url.clone())
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // Not on the test's runtime, which may be about to end and may have one thread only.
        let dropper = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let mut admin = connect(&server(VARIABLE)).await;
                let _ = sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await;
            });
        });
        let _ = dropper.join();
    }
}

fn unique_name() -> String {
    let now = SystemClock.now().unix_timestamp();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{now}_{}_{count}", std::process::id())
}

/// The URL of another database on the same server.
fn url_of(name: &str) -> String {
    let url = server(VARIABLE);
    let (base, query) = url.split_once('?').map_or((url.as_str(), None), |(b, q)| (b, Some(q)));
    let scheme = base.find("://").map_or(0, |at| at + 3);
    let end = base[scheme..].find('/').map_or(base.len(), |at| scheme + at);
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{}/{name}{query}", &base[..end])
}

async fn connect(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url)
        .unwrap_or_else(|_| panic!("{VARIABLE} is not a postgres:// URL"));
    let connected = options.connect().await;
    connected.unwrap_or_else(|error| panic!("the test database server does not answer: {error}"))
}

async fn run(admin: &mut PgConnection, sql: String) {
    let done = sqlx::query(AssertSqlSafe(sql.clone())).execute(admin).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn sweep(admin: &mut PgConnection) {
    let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'portolan\\_test\\_%'";
    let rows = sqlx::query(sql).fetch_all(&mut *admin).await.unwrap_or_default();
    let oldest = SystemClock.now() - STALE;
    for row in rows {
        let name: String = row.get(0);
        let born = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()?.parse().ok());
        if born.is_some_and(|born: i64| born < oldest.unix_timestamp()) {
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let _ = sqlx::query(AssertSqlSafe(sql)).execute(&mut *admin).await;
        }
    }
}

/// The name of a database with exactly these migrations applied, made if it does not exist.
async fn template(admin: &mut PgConnection, migrators: &[&Migrator]) -> String {
    let name = template_name(migrators);
    if exists(admin, &name).await {
        return name;
    }
    // One test process makes it, the others wait. The lock goes with the connection.
    let lock = "SELECT pg_advisory_lock(hashtext($1))";
    sqlx::query(lock).bind(&name).execute(&mut *admin).await.expect("an advisory lock");
    if !exists(admin, &name).await {
        let draft = format!("{name}_draft");
        run(admin, format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)")).await;
        run(admin, format!("CREATE DATABASE {draft}")).await;
        apply(&url_of(&draft), migrators).await;
        run(admin, format!("ALTER DATABASE {draft} RENAME TO {name}")).await;
    }
    let unlock = "SELECT pg_advisory_unlock(hashtext($1))";
    sqlx::query(unlock).bind(&name).execute(&mut *admin).await.expect("an advisory unlock");
    name
}

async fn apply(url: &str, migrators: &[&Migrator]) {
    let mut connection = connect(url).await;
    for migrator in migrators {
        migrator.run(&mut connection).await.expect("the migrations apply");
    }
    connection.close().await.expect("nobody may be connected to a template");
}

async fn exists(admin: &mut PgConnection, name: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    sqlx::query_scalar(sql).bind(name).fetch_one(admin).await.expect("the list of databases")
}

/// FNV-1a over table names, versions and checksums: another schema is another template.
fn template_name(migrators: &[&Migrator]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for migrator in migrators {
        add(migrator.table_name.as_bytes());
        for migration in migrator.iter() {
            add(&migration.version.to_be_bytes());
            add(&migration.checksum);
        }
    }
    format!("portolan_template_{hash:016x}")
}
