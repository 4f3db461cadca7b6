//! A real PostgreSQL that takes connections by TLS and password only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::geteuid;
use portolan_testkit::free_port;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{
    program::{Running, eventually},
    vault::World,
};

/// What PostgreSQL says to somebody with a wrong password, or a wrong name.
pub(crate) const WRONG_PASSWORD: &str = "28P01";

pub(crate) struct Postgres {
    process: Option<Running>,
    pub(crate) port: u16,
    data: PathBuf,
    directory: PathBuf,
    ca: PathBuf,
    /// A certificate and its key, for every connection.
    pub(crate) identity: Option<[PathBuf; 2]>,
}

/// What came of a statement: the first column of each row as text, or PostgreSQL's error code.
pub(crate) type Answer = Result<Vec<String>, String>;

impl Postgres {
    /// Prepared, not yet started.
    pub(crate) fn new(world: &World) -> Self {
        let directory = world.directory.0.join("postgres");
        fs::create_dir_all(&directory).unwrap();
        for key in ["superuser", "vault_admin"] {
            let password = world.api.secret("postgres-bootstrap", key).unwrap();
            world.directory.write(&format!("passwords/{key}"), &password);
        }
        for key in ["tls.crt", "tls.key"] {
            let text = world.api.secret("postgres-tls", key).unwrap();
            fs::write(directory.join(key), text).unwrap();
        }
        command("chmod", &["600".as_ref(), directory.join("tls.key").as_ref()]);
        let (data, ca) = (directory.join("data"), world.vault.ca.clone());
        let (process, port, identity) = (None, free_port(), None);
        let postgres = Self { process, port, data, directory, ca, identity };
        postgres.initialise(&world.directory.0.join("passwords/superuser"));
        postgres
    }

    fn initialise(&self, password: &Path) {
        fs::copy(password, self.directory.join("password")).unwrap();
        self.own();
        let initdb = self
            .program("initdb")
            .arg("-D")
            .arg(&self.data)
            .args(["-U", "postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg("--no-sync")
            .arg("--pwfile")
            .arg(self.directory.join("password"))
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nfsync = off\n\
             ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\n",
            self.port,
            self.directory.join("tls.crt").display(),
            self.directory.join("tls.key").display(),
            self.ca.display()
        );
        fs::write(self.data.join("postgresql.auto.conf"), settings).unwrap();
        self.admit("scram-sha-256");
        self.own();
    }

    /// How everybody has to prove who they are; before it is started.
    pub(crate) fn admit(&self, method: &str) {
        let rule = format!("hostssl all all 127.0.0.1/32 {method}\n");
        fs::write(self.data.join("pg_hba.conf"), rule).unwrap();
    }

    /// PostgreSQL does not run as root, so its files are another user's.
    fn own(&self) {
        if geteuid().is_root() {
            command("chown", &["-R".as_ref(), "postgres:".as_ref(), self.directory.as_ref()]);
        }
    }

    fn program(&self, name: &str) -> Command {
        let path = programs().join(name);
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(&self.directory);
        command
    }

    pub(crate) fn start(&mut self) {
        let mut program = self.program("postgres");
        program.arg("-D").arg(&self.data);
        self.process = Some(Running::start(program, &self.data.with_extension("log")));
        let nobody = ("nobody".to_owned(), String::new());
        eventually("PostgreSQL lets people in", || {
            (self.run(&nobody, "postgres", "") == Err(WRONG_PASSWORD.to_owned())).then_some(())
        });
    }

    /// As when its claim is deleted.
    pub(crate) fn lose_everything(&mut self, world: &World) {
        self.process.take().unwrap().end(nix::sys::signal::Signal::SIGQUIT);
        fs::remove_dir_all(&self.data).unwrap();
        self.initialise(&world.directory.0.join("passwords/superuser"));
        self.start();
    }

    /// Runs statements as somebody.
    pub(crate) fn run(&self, login: &(String, String), database: &str, sql: &str) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut db = self.open(login, database).await.map_err(|error| code(&error))?;
            let mut rows = Ok(Vec::new());
            for statement in sql.split(";;") {
                let done = sqlx::query_scalar(AssertSqlSafe(statement.to_owned()));
                rows = done.fetch_all(&mut db).await.map_err(|error| code(&error));
                if rows.is_err() {
                    break;
                }
            }
            let _ = db.close().await;
            rows
        })
    }

    /// A connection that stays.
    pub(crate) async fn open(
        &self,
        (user, password): &(String, String),
        database: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        let mut options = PgConnectOptions::new_without_pgpass()
            .host("localhost")
            .port(self.port)
            .username(user)
            .password(password)
            .database(database)
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert(&self.ca);
        if let Some([certificate, key]) = &self.identity {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        PgConnection::connect_with(&options).await
    }

    pub(crate) fn as_superuser(&self, world: &World, database: &str, sql: &str) -> Answer {
        let password = world.api.secret("postgres-bootstrap", "superuser").unwrap();
        self.run(&("postgres".to_owned(), password), database, sql)
    }
}

fn code(error: &sqlx::Error) -> String {
    let database = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    database.map_or_else(|| error.to_string(), std::borrow::Cow::into_owned)
}

fn command(program: &str, arguments: &[&std::ffi::OsStr]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success());
}

/// Where PostgreSQL's programs are: as the local app host finds them.
#[expect(clippy::disallowed_methods, reason = "the programs are named by the environment")]
fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("PORTOLAN_POSTGRES_BIN") {
        return PathBuf::from(named);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path().join("bin")).max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = newest.or_else(|| {
        std::env::split_paths(&path).find(|directory| directory.join("initdb").is_file())
    });
    found.unwrap_or_else(|| panic!("no PostgreSQL: name its programs in PORTOLAN_POSTGRES_BIN"))
}
