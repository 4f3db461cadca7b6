use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Why the signing key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read the key file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot create the key file {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("{} is not an Ed25519 private key in PKCS#8 PEM form", path.display())]
    Format { path: PathBuf },
    #[error("no key could be generated")]
    Generate,
}

/// The PKCS#8 form of the key in the file, which is created with a new key if it is missing.
///
/// Several processes may start at once: the file appears whole or not at all, and all of them
/// end up with the same key.
pub(crate) fn load_or_create(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    match fs::read_to_string(path) {
        Ok(pem) => decode(path, &pem),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path)?;
            let pem = fs::read_to_string(path)
                .map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
            decode(path, &pem)
        }
        Err(source) => Err(KeyFileError::Read { path: path.to_owned(), source }),
    }
}

fn decode(path: &Path, pem: &str) -> Result<Vec<u8>, KeyFileError> {
    warn_if_readable_by_others(path);
    let body = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let text: String =
        body.map_or("", |(inner, _)| inner).chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(text).unwrap_or_default();
    match Ed25519KeyPair::from_pkcs8(&der) {
        Ok(_) => Ok(der),
        Err(_) => Err(KeyFileError::Format { path: path.to_owned() }),
    }
}

/// A secret mounted by an orchestrator often is, so this is no reason to stop.
fn warn_if_readable_by_others(path: &Path) {
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

fn new_key() -> Result<String, KeyFileError> {
    let key = Ed25519KeyPair::generate().map_err(|_| KeyFileError::Generate)?;
    // Version 1 of PKCS#8 is what the openssl command line reads.
    let document = key.to_pkcs8v1().map_err(|_| KeyFileError::Generate)?;
    Ok(format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(document.as_ref())))
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
        let made = load_or_create(&key).unwrap();
        assert_eq!(load_or_create(&key).unwrap(), made);
        let permissions = fs::metadata(&directory).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o700);
        fs::remove_dir_all(&directory).unwrap();
    }
}
