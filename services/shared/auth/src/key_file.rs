use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::key_ring::{KeyRing, KeyRingError};

/// Why the signing keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read the key file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot create the key file {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("the key file {} cannot be used", path.display())]
    Format { path: PathBuf, source: KeyRingError },
    #[error("no key could be generated")]
    Generate,
}

/// The keys in the file.
pub(crate) fn load(path: &Path) -> Result<KeyRing, KeyFileError> {
    let pem =
        fs::read(path).map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    warn_if_readable_by_others(path);
    KeyRing::parse(&pem).map_err(|source| KeyFileError::Format { path: path.to_owned(), source })
}

/// Makes a new key (Ed25519, PKCS#8 PEM) for its owner only (mode 0600), if the file is missing.
///
/// Several processes may start at once: the file appears whole or not at all, and all of them
/// end up with the same key.
///
/// # Errors
/// The file is missing and cannot be made.
pub fn create_key_file(path: &Path) -> Result<(), KeyFileError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        // Whatever else is wrong with it, reading it will say.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Logs a warning if everybody on this machine can read the file. A secret mounted by an
/// orchestrator often is open, so this is no reason to stop.
pub fn warn_if_readable_by_others(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o007 != 0 {
        tracing::warn!(path = %path.display(), mode = %format!("{:03o}", mode & 0o777),
            "the key file is open to every user of this machine");
    }
}

fn create(path: &Path) -> Result<(), KeyFileError> {
    let pem = new_key()?;
    let failed = |source| KeyFileError::Create { path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let temporary = temporary_name(path)?;
    let written = write_private(&temporary, pem.as_bytes()).and_then(|()| {
        // Unlike a rename, a link never replaces the key that another process has just made.
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    });
    let removed = fs::remove_file(&temporary);
    written.and(removed).map_err(failed)
}

pub(crate) fn new_key() -> Result<String, KeyFileError> {
    let key = Ed25519KeyPair::generate().map_err(|_| KeyFileError::Generate)?;
    // Version 1 of PKCS#8 is what the openssl command line reads.
    let document = key.to_pkcs8v1().map_err(|_| KeyFileError::Generate)?;
    let body = STANDARD.encode(document.as_ref());
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"))
}

fn temporary_name(path: &Path) -> Result<PathBuf, KeyFileError> {
    let mut unique = [0_u8; 8];
    aws_lc_rs::rand::fill(&mut unique).map_err(|_| KeyFileError::Generate)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", hex::encode(unique)));
    Ok(PathBuf::from(name))
}

fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_made_for_the_key_is_closed_to_others() {
        let directory = temporary_name(&std::env::temp_dir().join("portolan-key")).unwrap();
        let key = directory.join("key.pem");
        create_key_file(&key).unwrap();
        let made = fs::read(&key).unwrap();
        create_key_file(&key).unwrap();
        assert_eq!(fs::read(&key).unwrap(), made);
        let permissions = fs::metadata(&directory).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o700);
        fs::remove_dir_all(&directory).unwrap();
    }
}
