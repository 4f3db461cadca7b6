//! Users who can log in: a directory with one file for each, named like the user and holding the
//! password, as a Kubernetes Secret is mounted.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use secrecy::SecretString;

/// A user and the password.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub name: String,
    pub password: SecretString,
}

/// The users of a directory, by name.
///
/// # Errors
/// The directory or a file cannot be read, or there is nobody.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Vec<User>> {
    let failed = || format!("cannot read the users of {}", dir.display());
    let mut users = Vec::new();
    for entry in fs::read_dir(dir).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        // A mounted Secret has its own book-keeping in hidden entries.
        let Some(name) = name.filter(|name| !name.starts_with('.') && path.is_file()) else {
            continue;
        };
        let password = fs::read_to_string(&path).with_context(failed)?;
        users.push(User { name, password: password.trim_end().into() });
    }
    ensure!(!users.is_empty(), "there are no users in {}", dir.display());
    users.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(users)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::local::random_bytes;

    #[test]
    fn a_mounted_secret_is_a_directory_of_users() {
        let name = format!("portolan-users-{}", hex::encode(random_bytes::<8>().unwrap()));
        let dir = std::env::temp_dir().join(name);
        let version = dir.join("..2026_11_21");
        fs::create_dir_all(&version).unwrap();
        symlink("..2026_11_21", dir.join("..data")).unwrap();
        assert!(read(&dir).unwrap_err().to_string().contains("no users"));
        for (user, password) in [("bob", "b-word\n"), ("alice", "a-word")] {
            fs::write(version.join(user), password).unwrap();
            symlink(format!("..data/{user}"), dir.join(user)).unwrap();
        }
        let users = read(&dir).unwrap();
        let found: Vec<_> =
            users.iter().map(|user| (&*user.name, user.password.expose_secret())).collect();
        assert_eq!(found, [("alice", "a-word"), ("bob", "b-word")]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
