use std::{path::PathBuf, str::FromStr as _, time::Duration};

use anyhow::{Context as _, anyhow};
use secrecy::ExposeSecret as _;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use tokio::time::Instant;

use crate::{Check, Context, DatabaseConfig};

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_DELAY: Duration = Duration::from_millis(250);
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// How connections of this process are made: named after the program, with a limit for
/// statements, and with one for transactions left open, so that a zombie holds no lock for long.
///
/// # Errors
/// The URL does not parse.
pub fn options(config: &DatabaseConfig) -> anyhow::Result<PgConnectOptions> {
    // The parser's own message may quote the URL, and with it the password.
    let options = PgConnectOptions::from_str(config.url.expose_secret())
        .map_err(|_| anyhow!("database.url is not a postgres:// URL"))?;
    let statement_timeout = config.statement_timeout_ms.to_string();
    Ok(options.application_name(&program()).options([
        ("statement_timeout", statement_timeout.as_str()),
        ("idle_in_transaction_session_timeout", "30000"),
    ]))
}

fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("portolan"));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut name = name.unwrap_or_default();
    // Postgres keeps 63 bytes.
    name.truncate(name.floor_char_boundary(63));
    name
}

/// Connects the pool, trying again until the configured time is over as long as the database is
/// merely not there yet.
///
/// # Errors
/// One line with user, host, port, database and the cause; never the password.
pub async fn connect(config: &DatabaseConfig) -> anyhow::Result<PgPool> {
    let options = options(config)?;
    let place = place(&options);
    let pool = PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT);
    let deadline = Instant::now() + Duration::from_secs(config.connect_timeout_secs);
    loop {
        // A direct connection first: its error names the cause, the pool's is a mere timeout.
        let attempt = async {
            let probe = tokio::time::timeout(ACQUIRE_TIMEOUT, connect_once(&options));
            probe.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
        };
        match attempt.await {
            Ok(()) => break,
            Err(error) if is_transient(&error) && Instant::now() + RETRY_DELAY < deadline => {
                tracing::debug!(%error, "the database is not there yet");
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot connect to database {place}"));
            }
        }
    }
    let connected = pool.connect_with(options).await;
    connected.with_context(|| format!("cannot connect to database {place}"))
}

async fn connect_once(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    options.connect().await?.close().await
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

/// Starts the task that pings the database each second and reports to the required check
/// `database` and the gauge `portolan_database_up`. The first ping is done before this returns.
pub async fn watch(ctx: &Context, pool: &PgPool) {
    let check = ctx.readiness.register("database", true);
    metrics::describe_gauge!("portolan_database_up", "1 while the database answers, else 0.");
    let mut probe = Probe { options: pool.connect_options().as_ref().clone(), connection: None };
    probe.report(&check).await;
    let soft = ctx.tasks.soft();
    ctx.tasks.spawn("database-watch", async move {
        let forever = async {
            loop {
                tokio::time::sleep(PING_INTERVAL).await;
                probe.report(&check).await;
            }
        };
        let _: Option<()> = soft.run_until_cancelled(forever).await;
        Ok(())
    });
}

/// Pings over a connection of its own: a pool that is merely busy must not look like a database
/// that is gone.
struct Probe {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Probe {
    async fn report(&mut self, check: &Check) {
        let failure = match tokio::time::timeout(PING_TIMEOUT, self.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(crate::one_line(&error)),
            Err(_) => Some("no answer to a ping within 2 s".to_owned()),
        };
        let up = if failure.is_none() { 1.0 } else { 0.0 };
        metrics::gauge!("portolan_database_up").set(up);
        match failure {
            None => check.ok(),
            Some(reason) => check.fail(reason),
        }
    }

    async fn ping(&mut self) -> Result<(), sqlx::Error> {
        // Taken out, so that a ping that fails or is given up never meets its connection again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        connection.ping().await?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Whether the same statement may succeed later without any change: failures of the connection,
/// an exhausted pool, and the SQLSTATE classes 08 (connection), 40 (rollback: deadlock,
/// serialization), 53 (resources), 55 (object in use: lock timeout) and 57 (operator: shutdown,
/// cancelled statement). Postgres documentation, appendix A.
pub fn is_transient(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Database(error) = error {
        let code = error.code().unwrap_or_default();
        return ["08", "40", "53", "55", "57"].iter().any(|class| code.starts_with(class));
    }
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
    )
}
