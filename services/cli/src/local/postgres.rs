//! One PostgreSQL server with a role and a database for each service.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, chown},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgConnection, PgSslMode},
};

use super::{
    certificates::{AUDIT, HOST, POSTGRES, Places, pair, text},
    component::{Component, Program},
    ports::loopback,
    probe::Probe,
    programs::Programs,
    settings::Settings,
    state::{StateDir, write_private},
};

/// Those who own a database.
pub(crate) const OWNERS: [&str; 5] = ["order", "inventory", "payment", "notification", "psp"];

/// The server, and how it is reached.
#[derive(Debug)]
pub(crate) struct Postgres<'a> {
    state: &'a StateDir,
    programs: &'a Programs,
    port: u16,
    /// Where it listens, if that is elsewhere than where it is looked for.
    behind: u16,
    /// The unprivileged user it runs as: PostgreSQL refuses to run as root.
    user: Option<User>,
    tls: Option<&'a Places>,
}

impl<'a> Postgres<'a> {
    /// # Errors
    /// The unprivileged user does not exist, or a port would be above 65535.
    pub(crate) fn new(
        state: &'a StateDir,
        programs: &'a Programs,
        settings: &Settings,
        tls: Option<&'a Places>,
    ) -> anyhow::Result<Self> {
        let user = if geteuid().is_root() {
            let name = &settings.postgres_user;
            let user = User::from_name(name)?;
            Some(user.with_context(|| {
                format!("PostgreSQL cannot run as root, and there is no user {name:?} for it")
            })?)
        } else {
            None
        };
        let port = settings.ports.postgres;
        let behind = settings.ports.behind(port)?;
        Ok(Self { state, programs, port, behind, user, tls })
    }

    /// Makes the cluster if there is none, and writes down who is let in.
    ///
    /// # Errors
    /// PostgreSQL's own, or a file or directory cannot be made.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        if !self.state.postgres().join("PG_VERSION").exists() {
            self.make()?;
        }
        self.protect()
    }

    fn make(&self) -> anyhow::Result<()> {
        let data = self.state.postgres();
        // Made aside and moved, so that an interrupted attempt is not taken for a cluster.
        let new = data.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        if let Some(user) = &self.user {
            chown(&new, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let locale = if cfg!(target_os = "linux") { "C.UTF-8" } else { "C" };
        let initdb = self
            .program("initdb", &[], &new)
            .args(["-U", "postgres", "--encoding=UTF8", "--auth=trust", "--no-instructions"])
            .args(["--locale", locale]);
        run(initdb.command(), "initdb", "")?;
        // Hexadecimal digits need no quoting.
        let password = self.state.secret("postgres")?;
        let single = self.program("postgres", &["--single"], &new).args(["postgres"]);
        let statement = format!("ALTER ROLE postgres PASSWORD '{password}'\n");
        run(single.command(), "postgres --single", &statement)?;
        fs::rename(&new, &data)?;
        Ok(())
    }

    /// Lets nobody in without a password, and with TLS nobody without a certificate.
    fn protect(&self) -> anyhow::Result<()> {
        let rule = if let Some(places) = self.tls {
            self.hand_over("server.pem", &fs::read(places.identity(POSTGRES))?)?;
            self.hand_over("roots.pem", &fs::read(places.roots())?)?;
            "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca"
        } else {
            "host all all 127.0.0.1/32 scram-sha-256"
        };
        let rules = format!("# Over the loopback interface, with a password.\n{rule}\n");
        self.hand_over("pg_hba.conf", rules.as_bytes())
    }

    /// Writes a file of the data directory, for the server's user alone: it insists on that for
    /// its key.
    fn hand_over(&self, name: &str, contents: &[u8]) -> anyhow::Result<()> {
        let file = self.state.postgres().join(name);
        write_private(&file, contents)?;
        if let Some(user) = &self.user {
            chown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }

    /// A program of PostgreSQL that works on a data directory, as the unprivileged user if there
    /// is one. The `first` arguments go before the directory.
    fn program(&self, name: &str, first: &[&str], data: &Path) -> Program {
        let path = self.programs.postgres(name);
        match (&self.user, &self.programs.setpriv) {
            // That user may have no way here (root's home is closed): root opens the directory
            // and hands it over.
            (Some(user), Some(setpriv)) => Program::new("/bin/sh", "/")
                .args(["-c", "exec 9<\"$0\" && exec \"$@\""])
                .args([data.as_os_str(), setpriv.as_os_str()])
                .args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)])
                .args(["--clear-groups".into(), path.into_os_string()])
                .args(first)
                .args(["-D", "/proc/self/fd/9"]),
            _ => Program::new(path, data).args(first).args(["-D".as_ref(), data.as_os_str()]),
        }
    }

    pub(crate) fn component(&self) -> anyhow::Result<Component> {
        let mut program = self.program("postgres", &[], &self.state.postgres());
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.behind),
            "unix_socket_directories=".to_owned(),
            "max_connections=300".to_owned(),
            "shared_buffers=128MB".to_owned(),
            "wal_compression=on".to_owned(),
            "max_wal_size=2GB".to_owned(),
            "idle_in_transaction_session_timeout=60s".to_owned(),
            "log_checkpoints=off".to_owned(),
        ];
        let tls = [
            "ssl=on",
            "ssl_cert_file=server.pem",
            "ssl_key_file=server.pem",
            "ssl_ca_file=roots.pem",
            "ssl_min_protocol_version=TLSv1.3",
        ];
        let tls = tls.into_iter().filter(|_| self.tls.is_some()).map(str::to_owned);
        for setting in settings.into_iter().chain(tls) {
            program = program.args(["-c".to_owned(), setting]);
        }
        Ok(Component {
            name: "postgres".to_owned(),
            port: self.behind,
            program,
            // Fast shutdown: ends the sessions instead of waiting for them.
            stop_signal: Signal::SIGINT,
            grace: Duration::from_secs(30),
            probe: Probe::Postgres(Box::new(self.superuser()?)),
        })
    }

    fn superuser(&self) -> anyhow::Result<PgConnectOptions> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.behind)
            .username("postgres")
            .password(&self.state.secret("postgres")?)
            .database("postgres");
        let Some(places) = self.tls else { return Ok(options.ssl_mode(PgSslMode::Disable)) };
        let identity = places.identity(HOST);
        Ok(options
            .ssl_mode(PgSslMode::VerifyFull)
            .ssl_root_cert(places.roots())
            .ssl_client_cert(&identity)
            .ssl_client_key(&identity))
    }

    /// The address of a service's database, with its password.
    ///
    /// # Errors
    /// The secrets cannot be read.
    pub(crate) fn url(&self, owner: &str) -> anyhow::Result<String> {
        let password = self.state.secret(owner)?;
        Ok(format!(
            "postgres://portolan_{owner}:{password}@{}/portolan_{owner}",
            loopback(self.port)
        ))
    }

    /// Makes roles and databases as far as they are missing, and writes down for the audit where
    /// they are and how to be let in.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn create_databases(&self) -> anyhow::Result<()> {
        let mut connection = self.superuser()?.connect().await?;
        for owner in OWNERS {
            create_database(&mut connection, owner, &self.state.secret(owner)?)
                .await
                .with_context(|| format!("cannot create the database portolan_{owner}"))?;
        }
        connection.close().await?;
        let urls = OWNERS.into_iter().map(|owner| Ok((owner, self.url(owner)?)));
        let mut sources = urls.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        if let Some((roots, identity)) = pair(self.tls, AUDIT) {
            sources.insert("tls_roots", text(&roots));
            sources.insert("tls_identity", text(&identity));
        }
        write_private(&self.state.databases(), &serde_json::to_vec_pretty(&sources)?)
    }
}

/// Names and passwords are ours: letters, digits and underscores.
async fn create_database(
    connection: &mut PgConnection,
    owner: &str,
    password: &str,
) -> sqlx::Result<()> {
    let name = format!("portolan_{owner}");
    let role =
        sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)");
    let verb = if role.bind(&name).fetch_one(&mut *connection).await? { "ALTER" } else { "CREATE" };
    connection
        .execute(AssertSqlSafe(format!("{verb} ROLE {name} LOGIN PASSWORD '{password}'")))
        .await?;
    let there =
        sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
    if !there.bind(&name).fetch_one(&mut *connection).await? {
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name} OWNER {name}"))).await?;
    }
    connection.execute(AssertSqlSafe(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"))).await?;
    Ok(())
}

/// Runs a program to its end with some input.
fn run(mut command: Command, name: &str, input: &str) -> anyhow::Result<()> {
    let mut child =
        command.stdin(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " / ");
        bail!("{name} failed ({}): {said}", output.status);
    }
    Ok(())
}
