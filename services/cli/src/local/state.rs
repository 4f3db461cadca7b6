//! The state directory: data, generated configuration and secrets, logs, and the record of what
//! runs.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    certificates::Places,
    record::HostRecord,
    services::{AUDIENCE, ISSUER},
};
use crate::cluster::config::{Config, IssuerConfig, Services};

/// The file that says whose directory this is.
const MARKER: &str = ".portolan-state";
const MARKER_TEXT: &str = "This directory belongs to `portolan up`.\n";
/// What `--reset` leaves alone: the marker, the lock that is being held, and the log that is being
/// written.
const KEPT: [&str; 3] = [MARKER, "lock", "host.log"];
/// What `--reset` removes: everything else that an installation writes, half-written files
/// included.
const REMOVED: [&str; 16] = [
    "postgres",
    "postgres.new",
    "kafka",
    "redis-1",
    "redis-2",
    "redis-3",
    "config",
    "logs",
    "tls",
    "secrets.json",
    "secrets.new",
    "databases.json",
    "databases.new",
    "host.json",
    "host.new",
    "seeded",
];
/// The key of the issuer, and files it is written to first. `token` makes it, too, in a directory
/// that no installation has marked yet.
const ISSUER_KEY: &str = "dev-issuer.pem";

/// Paths within the state directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
}

/// Held for as long as a supervisor owns the directory. The operating system releases it whatever
/// becomes of the holder.
#[derive(Debug)]
pub(crate) struct Lock(
    #[expect(dead_code, reason = "the lock is released when the file is closed")] File,
);

impl StateDir {
    /// The directory, which need not exist.
    ///
    /// # Errors
    /// The working directory is gone.
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { root: std::path::absolute(path)? })
    }

    /// Creates it, or takes it over, readable by its owner alone.
    ///
    /// # Errors
    /// It cannot be created, or holds something that is not ours: then nothing is changed.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        self.check_owned()?;
        for directory in [self.root.clone(), self.logs(), self.config()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        // It may have been there with the permissions of any other directory.
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close {} to others", self.root.display()))?;
        let marker = self.root.join(MARKER);
        if marker.exists() { Ok(()) } else { write_private(&marker, MARKER_TEXT.as_bytes()) }
    }

    /// Refuses a directory that has contents and is not an installation's.
    fn check_owned(&self) -> anyhow::Result<()> {
        let failed = || format!("cannot read {}", self.root.display());
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(failed),
        };
        let names = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>, _>>()
            .with_context(failed)?;
        // Names such as `config` and `logs` are everybody's; the issuer's key is ours alone.
        let unmarked = || {
            names.iter().all(|name| removable(name) || KEPT.contains(&name.as_str()))
                && names.iter().any(|name| name == ISSUER_KEY)
        };
        if names.is_empty() || names.iter().any(|name| name == MARKER) || unmarked() {
            return Ok(());
        }
        bail!(
            "{} is not empty and not a state directory of Portolan; choose another with --state",
            self.root.display()
        )
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.root.join("host.json")
    }
    pub(crate) fn host_log(&self) -> PathBuf {
        self.root.join("host.log")
    }
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config")
    }
    pub(crate) fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }
    pub(crate) fn kafka(&self) -> PathBuf {
        self.root.join("kafka")
    }
    pub(crate) fn redis(&self, number: usize) -> PathBuf {
        self.root.join(format!("redis-{number}"))
    }
    /// Where certificates are.
    pub(crate) fn tls(&self, leaf_ttl: Duration) -> Places {
        Places::new(self.root.join("tls"), leaf_ttl)
    }
    /// The private key of the development issuer.
    pub(crate) fn issuer_key(&self) -> PathBuf {
        self.root.join(ISSUER_KEY)
    }
    /// The address of every service's database, passwords included.
    pub(crate) fn databases(&self) -> PathBuf {
        self.root.join("databases.json")
    }
    /// Says which catalogue has been loaded.
    pub(crate) fn seeded(&self) -> PathBuf {
        self.root.join("seeded")
    }

    /// Takes the directory for one supervisor.
    ///
    /// # Errors
    /// Another one has it.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.root.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(self.taken()),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Why a second supervisor cannot have the directory.
    pub(crate) fn taken(&self) -> anyhow::Error {
        anyhow::anyhow!("already running from {} (see `portolan status`)", self.root.display())
    }

    /// The record of the supervisor that runs now.
    ///
    /// # Errors
    /// There is a record that cannot be read.
    pub(crate) fn running(&self) -> anyhow::Result<Option<HostRecord>> {
        Ok(HostRecord::read(&self.record())?.filter(|record| record.host.alive()))
    }

    /// What signs tokens here.
    pub(crate) fn issuer(&self) -> IssuerConfig {
        let (name, audience) = (ISSUER.to_owned(), AUDIENCE.to_owned());
        IssuerConfig { key_file: self.issuer_key(), name, audience }
    }

    /// Where a tool finds what runs here, and as whom it comes.
    ///
    /// # Errors
    /// Nothing runs here.
    pub(crate) fn tools(&self, component: &str) -> anyhow::Result<Config> {
        let record = self.running()?.context("nothing is running here: start it with `make up`")?;
        let places = record.leaf_ttl_secs.map(|ttl| self.tls(Duration::from_secs(ttl)));
        Ok(Config {
            tls: places.map(|places| places.config(component)),
            services: Services {
                gateway: record.gateways,
                inventory: Some(record.inventory),
                payment: Some(record.payment),
                jaeger: None,
            },
            issuer: Some(self.issuer()),
            ..Config::default()
        })
    }

    /// Removes everything that an installation writes (data, secrets, logs), and nothing else.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if !removable(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            let removed = if entry.file_type()?.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// A secret of this installation: made on first use, the same ever after.
    ///
    /// # Errors
    /// The file of secrets cannot be read or written.
    pub(crate) fn secret(&self, name: &str) -> anyhow::Result<String> {
        let file = self.root.join("secrets.json");
        let mut secrets: BTreeMap<String, String> = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is not a file of secrets", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        };
        if let Some(secret) = secrets.get(name) {
            return Ok(secret.clone());
        }
        let secret = hex::encode(random_bytes::<24>()?);
        secrets.insert(name.to_owned(), secret.clone());
        write_private(&file, &serde_json::to_vec_pretty(&secrets)?)?;
        Ok(secret)
    }
}

/// Whether `--reset` removes what has this name.
fn removable(name: &str) -> bool {
    let key = name.strip_prefix(ISSUER_KEY);
    REMOVED.contains(&name) || key.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Bytes that nobody can foretell.
///
/// # Errors
/// The operating system has no randomness.
pub(crate) fn random_bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut generator = StdRng::try_from_rng(&mut rand::rngs::SysRng)?;
    Ok(generator.random())
}

/// Writes a file that only its owner may read, replacing the old one in one step.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_private(file: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let temporary = file.with_extension("new");
    let write = || {
        let mut new = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        new.write_all(contents)?;
        fs::rename(&temporary, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> StateDir {
        let name = format!("portolan-state-{}", hex::encode(random_bytes::<8>().unwrap()));
        StateDir::at(&std::env::temp_dir().join(name)).unwrap()
    }

    fn scratch() -> StateDir {
        let state = missing();
        state.create().unwrap();
        state
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_made_once_and_readable_by_its_owner_alone() {
        let state = scratch();
        let first = state.secret("order").unwrap();
        assert_eq!(first.len(), 48);
        assert_eq!(state.secret("order").unwrap(), first);
        assert_ne!(state.secret("payment").unwrap(), first);
        assert_eq!(state.secret("order").unwrap(), first);
        assert_eq!(mode(&state.root.join("secrets.json")), 0o600);
        fs::remove_dir_all(&state.root).unwrap();
    }

    #[test]
    fn only_one_supervisor_has_the_directory() {
        let state = scratch();
        let lock = state.lock().unwrap();
        assert!(state.lock().unwrap_err().to_string().contains("already running"));
        drop(lock);
        state.lock().unwrap();
        fs::remove_dir_all(&state.root).unwrap();
    }

    #[test]
    fn a_reset_removes_data_and_secrets() {
        let state = scratch();
        let lock = state.lock().unwrap();
        let secret = state.secret("order").unwrap();
        fs::create_dir_all(state.kafka().join("topic")).unwrap();
        state.clear().unwrap();
        assert!(!state.kafka().exists());
        assert!(state.lock().is_err(), "the lock is still held");
        assert_ne!(state.secret("order").unwrap(), secret);
        drop(lock);
        fs::remove_dir_all(&state.root).unwrap();
    }

    #[test]
    fn a_reset_leaves_what_others_have_put_there() {
        let state = scratch();
        fs::create_dir(state.root.join("notes")).unwrap();
        fs::write(state.root.join("orders.csv"), "1").unwrap();
        state.create().unwrap();
        state.clear().unwrap();
        assert!(state.root.join("notes").exists() && state.root.join("orders.csv").exists());
        assert!(!state.logs().exists());
        fs::remove_dir_all(&state.root).unwrap();
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused_and_left_as_it_is() {
        let state = missing();
        fs::create_dir(&state.root).unwrap();
        fs::set_permissions(&state.root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(state.logs()).unwrap();
        let error = state.create().unwrap_err().to_string();
        assert!(error.contains("not a state directory"), "{error}");
        assert_eq!(fs::read_dir(&state.root).unwrap().count(), 1);
        assert_eq!(mode(&state.root), 0o755);
        fs::remove_dir_all(&state.root).unwrap();
    }

    #[test]
    fn a_directory_that_a_token_was_signed_in_is_taken_over_and_closed_to_others() {
        let state = missing();
        fs::create_dir(&state.root).unwrap();
        fs::set_permissions(&state.root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(state.issuer_key(), "key").unwrap();
        state.create().unwrap();
        assert_eq!(mode(&state.root), 0o700);
        state.create().unwrap();
        fs::remove_dir_all(&state.root).unwrap();
    }
}
