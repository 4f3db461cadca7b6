//! The database server goes away, or ends connections.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::{Instant, sleep};

use super::{
    super::{installation::Installation, schedule::Fault},
    process::{await_restart, signal_and_await},
};

/// How often connections are looked at, and how many looks until all are ended, committing or not.
const LOOK: Duration = Duration::from_millis(10);
const ALL_EVERY: u32 = 40;
/// How long the server may take to be back, and how often it is looked for.
const AGAIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A fast shutdown ends all sessions; an immediate one is a crash, after which the log is replayed.
pub(super) async fn restart(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    if fault.target == "crash" {
        // To the server alone, which takes its children with it.
        return await_restart(shop, "postgres", |process| process.signal(Signal::SIGQUIT)).await;
    }
    signal_and_await(shop, "postgres", Signal::SIGINT).await
}

/// Ends a database's connections in the moment of their commit, and now and then all of them: the
/// client does not learn whether it was committed.
pub(super) async fn cut(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let mut admin = admin(shop)?.connect().await?;
    let until = Instant::now() + fault.lasts();
    for look in 1.. {
        let everybody = look % ALL_EVERY == 0;
        end(&mut admin, &format!("portolan_{}", fault.target), everybody).await?;
        if Instant::now() >= until {
            break;
        }
        sleep(LOOK).await;
    }
    Ok(admin.close().await?)
}

async fn end(admin: &mut PgConnection, database: &str, everybody: bool) -> sqlx::Result<()> {
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = $1 AND ($2 OR (state = 'active' AND query ILIKE 'commit%'))",
    )
    .bind(database)
    .bind(everybody)
    .execute(admin)
    .await
    .map(|_| ())
}

/// Lets everybody in again: a database that was just being moved when the server ended is closed.
pub(super) async fn open_all(shop: &Installation) -> anyhow::Result<()> {
    let options = admin(shop)?;
    let deadline = Instant::now() + AGAIN;
    let mut admin = loop {
        match options.connect().await {
            Err(_) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            connected => break connected?,
        }
    };
    for owner in ["order", "inventory", "payment", "notification", "psp"] {
        let open = format!("ALTER DATABASE portolan_{owner} ALLOW_CONNECTIONS true");
        admin.execute(AssertSqlSafe(open)).await?;
    }
    Ok(admin.close().await?)
}

/// A connection of the superuser, past the network.
pub(super) fn admin(shop: &Installation) -> anyhow::Result<PgConnectOptions> {
    Ok(PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(shop.row("postgres")?.port)
        .username("postgres")
        .password(&shop.state().secret("postgres")?)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable))
}
