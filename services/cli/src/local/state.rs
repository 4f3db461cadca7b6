//! The state directory: data, generated configuration and secrets, logs, and the record of what
//! runs.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::record::HostRecord;

/// What `--reset` leaves alone: the lock that is being held, and the log that is being written.
const KEPT: [&str; 2] = ["lock", "host.log"];

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

    /// Creates it, readable by its owner alone.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        for directory in [self.root.clone(), self.logs(), self.config()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(())
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
    /// The private key of the development issuer.
    pub(crate) fn issuer_key(&self) -> PathBuf {
        self.root.join("dev-issuer.pem")
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
            Err(TryLockError::WouldBlock) => {
                bail!("already running from {} (see `portolan status`)", self.root.display())
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// The record of the supervisor that runs now.
    ///
    /// # Errors
    /// There is a record that cannot be read.
    pub(crate) fn running(&self) -> anyhow::Result<Option<HostRecord>> {
        Ok(HostRecord::read(&self.record())?.filter(|record| record.host.alive()))
    }

    /// Removes everything: data, secrets, logs.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if KEPT.iter().any(|kept| entry.file_name() == **kept) {
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn scratch() -> StateDir {
        let name = format!("portolan-state-{}", hex::encode(random_bytes::<8>().unwrap()));
        let state = StateDir::at(&std::env::temp_dir().join(name)).unwrap();
        state.create().unwrap();
        state
    }

    #[test]
    fn a_secret_is_made_once_and_readable_by_its_owner_alone() {
        let state = scratch();
        let first = state.secret("order").unwrap();
        assert_eq!(first.len(), 48);
        assert_eq!(state.secret("order").unwrap(), first);
        assert_ne!(state.secret("payment").unwrap(), first);
        assert_eq!(state.secret("order").unwrap(), first);
        let mode = fs::metadata(state.root.join("secrets.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
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
}
