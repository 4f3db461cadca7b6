use anyhow::Context as _;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, migrate::Migrator, postgres::PgDatabaseError};

/// Applies the migrations, those of each migrator in order, without the pool's statement timeout.
/// Safe to run from several processes at once: an advisory lock lets one of them work.
///
/// # Errors
/// A migration failed, or one that was applied has changed since.
pub async fn migrate(pool: &PgPool, migrators: &[&Migrator]) -> anyhow::Result<()> {
    let name = database_name(pool);
    let mut connection = pool.acquire().await.context("cannot migrate")?.detach();
    sqlx::query("SET statement_timeout = 0").execute(&mut connection).await?;
    for migrator in migrators {
        // `run` is generic over `Acquire`, whose future cannot be proven Send here.
        let migrated = migrator.run_direct(None, &mut connection, false).await;
        migrated.with_context(|| format!("cannot migrate database {name}"))?;
    }
    sqlx::Connection::close(connection).await?;
    tracing::info!(database = name, "the schema is up to date");
    Ok(())
}

/// Checks that the database has at least the schema that this binary was built with, and that no
/// later migration has declared this binary too old: migrations expand first and contract later,
/// and one that contracts raises `min_compatible` in the table `schema_compatibility`, in the row
/// named like its migration table.
///
/// # Errors
/// The schema is older, or too new; the line says by how much and what to do.
pub async fn require_schema(pool: &PgPool, migrators: &[&Migrator]) -> anyhow::Result<()> {
    Ok(check_schema(pool, migrators).await?)
}

/// Why the schema will not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// Somebody has yet to migrate.
    #[error("database {database} is at version {applied}, needs {required}: run migrate")]
    Behind { database: String, applied: String, required: i64 },
    /// This binary is too old.
    #[error("database {database} no longer serves version {required}, only {oldest} and newer")]
    Outgrown { database: String, required: i64, oldest: i64 },
    #[error("cannot check the schema")]
    Query(#[source] sqlx::Error),
}

/// [`require_schema`], with the reason to be judged.
pub(super) async fn check_schema(
    pool: &PgPool,
    migrators: &[&Migrator],
) -> Result<(), SchemaError> {
    let database = database_name(pool);
    let mut connection = pool.acquire().await.map_err(SchemaError::Query)?;
    for migrator in migrators {
        let required = required(migrator);
        let applied = applied(&mut connection, &migrator.table_name).await?;
        if applied < required {
            let applied = if applied == 0 { "none".to_owned() } else { applied.to_string() };
            return Err(SchemaError::Behind { database, applied, required });
        }
        let oldest = min_compatible(&mut connection, &migrator.table_name).await?;
        if required < oldest {
            return Err(SchemaError::Outgrown { database, required, oldest });
        }
    }
    Ok(())
}

fn required(migrator: &Migrator) -> i64 {
    let up = |migration: &&sqlx::migrate::Migration| migration.migration_type.is_up_migration();
    migrator.iter().filter(up).map(|migration| migration.version).max().unwrap_or(0)
}

/// The newest applied version, 0 for none.
async fn applied(connection: &mut PgConnection, table: &str) -> Result<i64, SchemaError> {
    // The name comes from the crate's own sqlx.toml, never from outside.
    let sql = AssertSqlSafe(format!("SELECT max(version) FROM {table} WHERE success"));
    let newest: Result<Option<i64>, _> = sqlx::query_scalar(sql).fetch_one(connection).await;
    match newest {
        Ok(version) => Ok(version.unwrap_or(0)),
        Err(error) if is_undefined_table(&error) => Ok(0),
        Err(error) => Err(SchemaError::Query(error)),
    }
}

/// The oldest version whose binaries the schema still serves, 0 for any.
async fn min_compatible(connection: &mut PgConnection, table: &str) -> Result<i64, SchemaError> {
    let oldest: Result<Option<i64>, _> =
        sqlx::query_scalar("SELECT min_compatible FROM schema_compatibility WHERE component = $1")
            .bind(table)
            .fetch_optional(connection)
            .await;
    match oldest {
        Ok(version) => Ok(version.unwrap_or(0)),
        Err(error) if is_undefined_table(&error) => Ok(0),
        Err(error) => Err(SchemaError::Query(error)),
    }
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref());
    error.is_some_and(|error: &PgDatabaseError| error.code() == "42P01")
}

fn database_name(pool: &PgPool) -> String {
    pool.connect_options().get_database().unwrap_or("?").to_owned()
}
