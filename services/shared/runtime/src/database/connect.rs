use std::{sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use super::{
    access::{Access, AccessError},
    patience::{Attempt, Patience},
    release::settle,
    rotate::{Swaps, rotate},
    schema::{SchemaError, check_schema},
    transient::is_transient,
    watch_with,
};
use crate::{Context, DatabaseConfig};

/// How long a connection may take to come about, alone or from the pool.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Everything that a service needs before it can work with its database. Waits for the credentials
/// file, the database and the schema of `migrators`, while the required check `database` says what
/// for; then keeps login and certificates current, and watches the database.
///
/// # Errors
/// One line, when the configured time is over or waiting would not help: with host, port, database
/// and the cause, never with the password.
pub async fn open(
    ctx: &Context,
    config: &DatabaseConfig,
    migrators: &[&Migrator],
) -> anyhow::Result<PgPool> {
    let check = ctx.readiness.register("database", true);
    let mut patience = Patience::new(config.connect_timeout_secs, Some(check.clone()));
    let (pool, rotating) = pool(ctx, config, &mut patience).await?;
    let checked = patience.until(|| async {
        check_schema(&pool, migrators).await.map_err(|error| match &error {
            SchemaError::Behind { .. } => Attempt::Later(error.into()),
            SchemaError::Query(cause) if worth_waiting(cause, rotating) => {
                Attempt::Later(error.into())
            }
            SchemaError::Outgrown { .. } | SchemaError::Query(_) => Attempt::Never(error.into()),
        })
    });
    checked.await?;
    watch_with(ctx, &pool, check).await;
    Ok(pool)
}

/// Connects a pool and keeps its login and certificates current, trying again until the configured
/// time is over as long as the database or a file is merely not there yet.
///
/// # Errors
/// As [`open`], which services use: it waits for the schema as well.
pub async fn connect(ctx: &Context, config: &DatabaseConfig) -> anyhow::Result<PgPool> {
    let mut patience = Patience::new(config.connect_timeout_secs, None);
    pool(ctx, config, &mut patience).await.map(|(pool, _)| pool)
}

/// The pool, and whether its login can change.
async fn pool(
    ctx: &Context,
    config: &DatabaseConfig,
    patience: &mut Patience,
) -> anyhow::Result<(PgPool, bool)> {
    let load = || async {
        match Access::load(ctx.service, config, &ctx.tasks) {
            Ok(access) => Ok(access),
            Err(error @ AccessError::Url) => Err(Attempt::Never(error.into())),
            Err(error @ AccessError::File(_)) => Err(Attempt::Later(error.into())),
        }
    };
    let access = patience.until(load).await?;
    let rotating = access.changes();
    let reach = || async {
        let options = access.options();
        let connected = try_pool(config, &options).await;
        connected.map_err(|error| {
            let worth = worth_waiting(&error, rotating);
            let error = anyhow::Error::new(error);
            let error = error.context(format!("cannot connect to database {}", place(&options)));
            if worth { Attempt::Later(error) } else { Attempt::Never(error) }
        })
    };
    let (pool, swaps) = patience.until(reach).await?;
    if rotating {
        rotate(&ctx.tasks, access, pool.clone(), swaps);
    }
    Ok((pool, rotating))
}

/// A direct connection first: its error names the cause, the pool's is a mere timeout.
async fn try_pool(
    config: &DatabaseConfig,
    options: &PgConnectOptions,
) -> Result<(PgPool, Arc<Swaps>), sqlx::Error> {
    try_connect(options).await?;
    let swaps = Arc::new(Swaps::new(options.clone()));
    let pool = pool_options(config, &swaps).connect_with(options.clone()).await?;
    Ok((pool, swaps))
}

fn pool_options(config: &DatabaseConfig, swaps: &Arc<Swaps>) -> PgPoolOptions {
    let (before, after) = (Arc::clone(swaps), Arc::clone(swaps));
    PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .before_acquire(move |_, connection| {
            let usable = before.is_current(connection.age);
            Box::pin(std::future::ready(Ok(usable)))
        })
        .after_release(move |connection, _| {
            let swaps = Arc::clone(&after);
            Box::pin(async move { Ok(settle(connection, &swaps).await) })
        })
}

/// Whether these options lead into the database.
pub(super) async fn try_connect(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let once = async { options.connect().await?.close().await };
    tokio::time::timeout(ACQUIRE_TIMEOUT, once).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Whether the same attempt may succeed later. Where logins come and go, that goes for a login, a
/// database or a privilege as well that does not exist yet (SQLSTATE 28P01, 28000, 3D000, 42501).
fn worth_waiting(error: &sqlx::Error, rotating: bool) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let unknown = code.is_some_and(|code| ["28P01", "28000", "3D000", "42501"].contains(&&*code));
    is_transient(error) || (rotating && unknown)
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}
