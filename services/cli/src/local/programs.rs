//! Where the programs are that make up the installation.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::args::UpArgs;

/// The project file that says which Kafka is fetched.
const KAFKA_POM: &str = include_str!("../../../../deploy/local/kafka/pom.xml");
/// The services' programs.
const SERVICES: [&str; 6] = [
    "portolan-psp",
    "portolan-inventory",
    "portolan-payment",
    "portolan-notification",
    "portolan-order",
    "portolan-gateway",
];

/// Everything that is started, found before anything is.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    services: PathBuf,
    postgres: PathBuf,
    pub java: PathBuf,
    pub kafka_jars: PathBuf,
    pub redis: PathBuf,
    /// Needed to leave root behind for PostgreSQL.
    pub setpriv: Option<PathBuf>,
}

impl Programs {
    /// # Errors
    /// Names what is missing and how to get it.
    pub(crate) fn find(args: &UpArgs, root: bool) -> anyhow::Result<Self> {
        let search = Search { path: &args.path };
        Ok(Self {
            services: services(args.bin_dir.as_deref())?,
            postgres: match &args.postgres_bin {
                Some(dir) => dir.clone(),
                None => search.postgres()?,
            },
            java: search.program("java", "Java 17 or later")?,
            kafka_jars: kafka_jars(args)?,
            redis: search.program("redis-server", "Redis 7")?,
            setpriv: root.then(|| search.program("setpriv", "util-linux")).transpose()?,
        })
    }

    pub(crate) fn service(&self, name: &str) -> PathBuf {
        self.services.join(format!("portolan-{name}"))
    }

    pub(crate) fn postgres(&self, program: &str) -> PathBuf {
        self.postgres.join(program)
    }
}

fn services(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = if let Some(dir) = named {
        std::path::absolute(dir)?
    } else {
        let own = std::env::current_exe()?;
        own.parent().context("this program is in no directory")?.to_owned()
    };
    let missing: Vec<&str> =
        SERVICES.into_iter().filter(|name| !dir.join(name).is_file()).collect();
    if !missing.is_empty() {
        bail!("not built: {} (looked in {}); run `make build`", missing.join(", "), dir.display());
    }
    Ok(dir)
}

fn kafka_jars(args: &UpArgs) -> anyhow::Result<PathBuf> {
    let dir = if let Some(dir) = &args.kafka_dir {
        dir.clone()
    } else {
        let version = KAFKA_POM
            .split_once("<kafka.version>")
            .and_then(|(_, rest)| rest.split_once('<'))
            .map(|(version, _)| version)
            .context("the Kafka project file names no version")?;
        let cache = match &args.cache_home {
            Some(cache) => cache.clone(),
            None => std::env::home_dir().context("there is no home directory")?.join(".cache"),
        };
        cache.join("portolan").join(format!("kafka-{version}"))
    };
    if !dir.is_dir() {
        bail!("Kafka is not in {}; run scripts/kafka-fetch", dir.display());
    }
    Ok(std::path::absolute(dir)?)
}

struct Search<'a> {
    path: &'a str,
}

impl Search<'_> {
    fn on_path(&self, program: &str) -> Option<PathBuf> {
        let dirs = std::env::split_paths(self.path);
        dirs.map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
    }

    fn program(&self, name: &str, what: &str) -> anyhow::Result<PathBuf> {
        self.on_path(name).with_context(|| {
            format!("{name} ({what}) is not installed; scripts/install-deps says what is missing")
        })
    }

    /// Debian keeps one directory for each major version, none of them on the search path.
    fn postgres(&self) -> anyhow::Result<PathBuf> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = versions
            .filter_map(|entry| {
                let version: u32 = entry.file_name().to_str()?.parse().ok()?;
                let bin = entry.path().join("bin");
                bin.join("initdb").is_file().then_some((version, bin))
            })
            .max();
        if let Some((_, bin)) = newest {
            return Ok(bin);
        }
        let initdb = self.program("initdb", "PostgreSQL 15 or later")?;
        Ok(initdb.parent().unwrap_or(Path::new("/")).to_owned())
    }
}
