use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
};

use crate::directory::{Directory, UserRecord};

/// Each verification takes about 19 MiB and 20 ms of a processor: more at once would only be a way
/// to exhaust the machine.
const CONCURRENT_VERIFICATIONS: usize = 2;

/// How many callers may wait for their turn: about half a second of work. More would only wait for
/// longer than they stay.
const WAITING_CALLERS: usize = 32;

/// Why a password hash is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("the password cannot be hashed")]
    Hash,
    #[error("the password check did not finish")]
    Interrupted,
    #[error("too many password checks are waiting")]
    Busy,
}

/// The argon2id hash of a password as a PHC string with a new salt, for configuration files. Takes
/// tens of milliseconds: not for an async thread.
///
/// # Errors
/// The operating system gives no randomness, or the password has 4 GiB.
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Hash)
}

/// Whether the password is the one of the PHC string; an unreadable string fits none. Takes tens of
/// milliseconds: not for an async thread.
pub fn verify_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
}

/// The users of the development issuer.
#[derive(Debug)]
pub struct Users {
    directory: watch::Receiver<Arc<Directory>>,
    permits: Arc<Semaphore>,
    /// One for every caller, whether its turn has come or not.
    places: Semaphore,
}

impl Users {
    /// Checks passwords against the users who are current at the time of each log-in.
    pub fn following(directory: watch::Receiver<Arc<Directory>>) -> Self {
        let permits = Arc::new(Semaphore::new(CONCURRENT_VERIFICATIONS));
        let places = Semaphore::new(CONCURRENT_VERIFICATIONS + WAITING_CALLERS);
        Self { directory, permits, places }
    }

    /// The user of that name if the password is theirs. An unknown name takes as long as a wrong
    /// password.
    ///
    /// # Errors
    /// Too many callers are waiting already, or the process is stopping.
    pub async fn authenticate(
        &self,
        username: &str,
        password: SecretString,
    ) -> Result<Option<UserRecord>, PasswordError> {
        let _place = self.places.try_acquire().map_err(|_| PasswordError::Busy)?;
        let (user, hash) = self.look_up(username);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| PasswordError::Interrupted)?;
        // The permit goes along: a caller that has gone away does not end the work.
        let fits = spawn_blocking(move || {
            let fits = verify_password(password.expose_secret(), &hash);
            drop(permit);
            fits
        });
        let fits = fits.await.map_err(|_| PasswordError::Interrupted)?;
        Ok(user.filter(|_| fits))
    }

    fn look_up(&self, username: &str) -> (Option<UserRecord>, String) {
        let directory = self.directory.borrow();
        let (user, hash) = directory.look_up(username);
        (user.cloned(), hash.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::claims::Role;

    fn alice(password: &str) -> UserRecord {
        UserRecord {
            username: "alice".to_owned(),
            password_hash: hash_password(password).unwrap(),
            roles: vec![Role::Customer],
        }
    }

    fn directory(users: Vec<UserRecord>) -> watch::Sender<Arc<Directory>> {
        watch::Sender::new(Arc::new(Directory::new(users).unwrap()))
    }

    #[test]
    fn a_hash_fits_its_password_only_and_is_salted() {
        let (a, b) =
            (hash_password("correct horse").unwrap(), hash_password("correct horse").unwrap());
        assert_ne!(a, b);
        assert!(a.starts_with("$argon2id$v=19$"));
        assert!(verify_password("correct horse", &a) && verify_password("correct horse", &b));
        assert!(!verify_password("Correct horse", &a));
        assert!(!verify_password("", &a));
        assert!(!verify_password("x", "not a hash"));
    }

    #[tokio::test]
    async fn an_unknown_user_is_refused_even_with_the_password_behind_the_decoy() {
        let users = Users::following(directory(vec![alice("demo")]).subscribe());
        let demo = || SecretString::from("demo");
        let alice = users.authenticate("alice", demo()).await.unwrap();
        assert_eq!(alice.unwrap().roles, [Role::Customer]);
        assert!(users.authenticate("mallory", demo()).await.unwrap().is_none());
        assert!(users.authenticate("alice", SecretString::from("no")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn who_is_a_user_may_change() {
        let directory = directory(vec![alice("before")]);
        let users = Users::following(directory.subscribe());
        let fits = async |password: &str| {
            users.authenticate("alice", SecretString::from(password)).await.unwrap().is_some()
        };
        assert!(fits("before").await && !fits("after").await);
        directory.send_replace(Arc::new(Directory::new(vec![alice("after")]).unwrap()));
        assert!(fits("after").await && !fits("before").await);
        directory.send_replace(Arc::new(Directory::new(Vec::new()).unwrap()));
        assert!(!fits("after").await);
    }

    #[tokio::test]
    async fn callers_wait_for_their_turn_up_to_a_number() {
        let users = Users::following(directory(Vec::new()).subscribe());
        let taken = Arc::clone(&users.permits).acquire_many_owned(2).await.unwrap();
        let call = || Box::pin(users.authenticate("mallory", SecretString::from("guess")));
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiting = Vec::new();
        for _ in 0..CONCURRENT_VERIFICATIONS + WAITING_CALLERS {
            let mut caller = call();
            assert!(caller.as_mut().poll(&mut cx).is_pending());
            waiting.push(caller);
        }
        assert!(matches!(call().await, Err(PasswordError::Busy)));
        drop(waiting.pop());
        assert!(call().as_mut().poll(&mut cx).is_pending(), "who goes away makes room");
        drop((waiting, taken));
        assert!(call().await.unwrap().is_none());
    }
}
