use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::super::{Configure, DatabaseConfig, config::Access};
use crate::out;

/// Since this version a role that may make roles may not hand out all of them.
const ROLES_HAVE_ADMINS: i32 = 160_000;

impl Configure<'_> {
    /// The databases with their groups, and the role that Vault hands them out as.
    pub(in super::super) async fn groups(&self, config: &DatabaseConfig) -> anyhow::Result<()> {
        let db = config.open_as_superuser(&config.maintenance).await?;
        let mut server = Server { config, db, version: 0 };
        server.begin().await?;
        server.admin().await?;
        for database in self.config.databases() {
            server.database(database).await?;
            let mut db = config.open_as_superuser(database).await?;
            rights(&mut db, database).await?;
            db.close().await?;
        }
        server.db.close().await?;
        Ok(())
    }
}

impl DatabaseConfig {
    pub(super) async fn open_as_superuser(&self, database: &str) -> anyhow::Result<PgConnection> {
        let password = read(&self.superuser_password_file)?;
        let opened = self.open(&self.superuser, &password, database).await;
        opened.with_context(|| format!("database {database} as {}", self.superuser))
    }

    /// A connection by TLS to a server whose name and issuer are checked.
    pub(super) async fn open(
        &self,
        user: &str,
        password: &SecretString,
        database: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(user)
            .password(password.expose_secret())
            .database(database)
            .application_name("portolan vault-configure")
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert(&self.ca);
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        // A statement may have a password in it.
        options.disable_statement_logging().connect().await
    }
}

pub(super) fn read(path: &Path) -> anyhow::Result<SecretString> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(SecretString::from(text.trim()))
}

/// The server as a whole.
struct Server<'a> {
    config: &'a DatabaseConfig,
    db: PgConnection,
    /// `server_version_num`.
    version: i32,
}

impl Server<'_> {
    /// One at a time: two that grant the same at once fail. The lock ends with the connection.
    async fn begin(&mut self) -> anyhow::Result<()> {
        let lock = "SELECT pg_advisory_lock(hashtext('portolan vault-configure'))";
        sqlx::query(lock).execute(&mut self.db).await?;
        let version = "SELECT current_setting('server_version_num')::int";
        self.version = sqlx::query_scalar(version).fetch_one(&mut self.db).await?;
        Ok(())
    }

    /// Whom Vault is: it makes logins and ends their sessions.
    async fn admin(&mut self) -> anyhow::Result<()> {
        let DatabaseConfig { admin, maintenance, .. } = self.config;
        if !self.exists("pg_roles", "rolname", admin).await? {
            let create = "CREATE ROLE %I LOGIN CREATEROLE PASSWORD %L";
            set_admin_password(self.config, &mut self.db, create).await?;
            out::line(&format!("made the database role {admin}"));
        }
        self.run(format!("GRANT pg_signal_backend TO \"{admin}\"")).await?;
        if !self.config.shared_server {
            // Or every login could open them.
            self.run(format!("REVOKE ALL ON DATABASE \"{maintenance}\", template1 FROM PUBLIC"))
                .await?;
        }
        self.run(format!("GRANT CONNECT ON DATABASE \"{maintenance}\" TO \"{admin}\"")).await
    }

    /// A database of its owner group, closed to the public.
    async fn database(&mut self, name: &str) -> anyhow::Result<()> {
        let [owner, runtime, reader] = Access::ALL.map(|access| access.group(name));
        for group in [&owner, &runtime, &reader] {
            if !self.exists("pg_roles", "rolname", group).await? {
                self.run(format!("CREATE ROLE \"{group}\" NOLOGIN")).await?;
            }
        }
        self.hand_out(&[&owner, &runtime, &reader]).await?;
        if self.exists("pg_database", "datname", name).await? {
            self.check_owner(name, &owner).await?;
        } else {
            self.run(format!("CREATE DATABASE \"{name}\" OWNER \"{owner}\"")).await?;
            out::line(&format!("made the database {name}"));
        }
        self.run(format!("REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC")).await?;
        self.run(format!("GRANT CONNECT ON DATABASE \"{name}\" TO \"{runtime}\", \"{reader}\""))
            .await
    }

    /// Vault may make others members of the groups, and is not one itself.
    async fn hand_out(&mut self, groups: &[&String; 3]) -> anyhow::Result<()> {
        let [owner, runtime, reader] = groups;
        if self.version >= ROLES_HAVE_ADMINS {
            let admin = &self.config.admin;
            self.run(format!(
                "GRANT \"{owner}\", \"{runtime}\", \"{reader}\" TO \"{admin}\" \
                 WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
            ))
            .await?;
        }
        // Without being a superuser, only a member of the group can make it an owner.
        let superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
        if !sqlx::query_scalar::<_, bool>(superuser).fetch_one(&mut self.db).await? {
            self.run(format!("GRANT \"{owner}\" TO CURRENT_USER")).await?;
        }
        Ok(())
    }

    async fn check_owner(&mut self, database: &str, wanted: &str) -> anyhow::Result<()> {
        let owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1";
        let owner: String =
            sqlx::query_scalar(owner).bind(database).fetch_one(&mut self.db).await?;
        if owner != wanted {
            bail!("database {database} belongs to {owner}, not to {wanted}");
        }
        Ok(())
    }

    /// Whether a catalogue has a row of that name.
    async fn exists(
        &mut self,
        table: &'static str,
        column: &'static str,
        name: &str,
    ) -> anyhow::Result<bool> {
        let query = format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} = $1)");
        let found = sqlx::query_scalar(AssertSqlSafe(query)).bind(name);
        Ok(found.fetch_one(&mut self.db).await?)
    }

    async fn run(&mut self, statement: String) -> anyhow::Result<()> {
        run(&mut self.db, statement).await
    }
}

/// Gives Vault's role the first password again, by a statement with places for name and password.
pub(super) async fn set_admin_password(
    config: &DatabaseConfig,
    db: &mut PgConnection,
    statement: &'static str,
) -> anyhow::Result<()> {
    let password = read(&config.admin_password_file)?;
    // The server itself quotes.
    let statement: String = sqlx::query_scalar("SELECT format($1, $2, $3)")
        .bind(statement)
        .bind(&config.admin)
        .bind(password.expose_secret())
        .fetch_one(&mut *db)
        .await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(db).await?;
    Ok(())
}

/// What the groups may do in their database, with what is there and with what migrations will add.
async fn rights(db: &mut PgConnection, database: &str) -> anyhow::Result<()> {
    let [owner, runtime, reader] = Access::ALL.map(|access| access.group(database));
    for statement in [
        "REVOKE ALL ON SCHEMA public FROM PUBLIC".to_owned(),
        format!("GRANT USAGE, CREATE ON SCHEMA public TO \"{owner}\""),
        format!("GRANT USAGE ON SCHEMA public TO \"{runtime}\", \"{reader}\""),
        // Only without a schema does it undo what everybody may do by default.
        format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"{owner}\" \
             REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"
        ),
    ] {
        run(db, statement).await?;
    }
    for (group, kind, rights) in [
        (&runtime, &TABLES, "SELECT, INSERT, UPDATE, DELETE"),
        (&runtime, &SEQUENCES, "USAGE, SELECT"),
        (&runtime, &FUNCTIONS, "EXECUTE"),
        (&reader, &TABLES, "SELECT"),
        (&reader, &SEQUENCES, "SELECT"),
    ] {
        grant(db, &owner, group, kind, rights).await?;
    }
    Ok(())
}

/// Objects of a kind: the word in SQL, the rows of the catalogue, the test of a right.
struct Objects {
    word: &'static str,
    rows: &'static str,
    test: &'static str,
}

const TABLES: Objects = Objects {
    word: "TABLES",
    rows: "pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')",
    test: "has_table_privilege",
};
const SEQUENCES: Objects = Objects {
    word: "SEQUENCES",
    // Not out of `pg_class`: PostgreSQL may test the right before the kind, and refuses for a table.
    rows: "(SELECT seqrelid AS oid FROM pg_sequence) AS sequence \
           WHERE EXISTS (SELECT FROM pg_class WHERE pg_class.oid = sequence.oid \
           AND relnamespace = 'public'::regnamespace)",
    test: "has_sequence_privilege",
};
const FUNCTIONS: Objects = Objects {
    word: "FUNCTIONS",
    rows: "pg_proc WHERE pronamespace = 'public'::regnamespace",
    test: "has_function_privilege",
};

/// Rights to everything that the owner will make and, if they lack for something, to everything that
/// is there. They lack only when a group is new: a grant touches every table's row in the
/// catalogue, and a service that adds a partition at that moment would fail.
async fn grant(
    db: &mut PgConnection,
    owner: &str,
    group: &str,
    Objects { word, rows, test }: &Objects,
    rights: &str,
) -> anyhow::Result<()> {
    run(
        db,
        format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"{owner}\" IN SCHEMA public \
             GRANT {rights} ON {word} TO \"{group}\""
        ),
    )
    .await?;
    let each = rights.split(", ").map(|right| format!("{test}('{group}', oid, '{right}')"));
    let all = each.collect::<Vec<_>>().join(" AND ");
    let lacks = format!("SELECT EXISTS (SELECT FROM {rows} AND NOT ({all}))");
    if sqlx::query_scalar(AssertSqlSafe(lacks)).fetch_one(&mut *db).await? {
        run(db, format!("GRANT {rights} ON ALL {word} IN SCHEMA public TO \"{group}\"")).await?;
    }
    Ok(())
}

/// Runs one statement. Names in it are letters, digits and underscores.
async fn run(db: &mut PgConnection, statement: String) -> anyhow::Result<()> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(db).await;
    done.map(drop).with_context(|| statement)
}
