use std::{collections::HashMap, fmt, sync::Arc};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::claims::Role;

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
    #[error("the password hash of user {user} is not an argon2 PHC string")]
    Format { user: String },
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

/// A user of the development issuer.
#[derive(Clone)]
pub struct UserRecord {
    /// The name to log in with: the `sub` of the tokens.
    pub username: String,
    /// From [`hash_password`].
    pub password_hash: String,
    /// What the user is.
    pub roles: Vec<Role>,
}

impl fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserRecord")
            .field("username", &self.username)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// The users of the development issuer.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<String, UserRecord>,
    /// What an unknown user's password is checked against.
    decoy: String,
    permits: Arc<Semaphore>,
    /// One for every caller, whether its turn has come or not.
    places: Semaphore,
}

impl Users {
    /// Takes the users, checking that every hash can be read.
    ///
    /// # Errors
    /// One cannot.
    pub fn new(users: Vec<UserRecord>) -> Result<Self, PasswordError> {
        for user in &users {
            if PasswordHash::new(&user.password_hash).is_err() {
                return Err(PasswordError::Format { user: user.username.clone() });
            }
        }
        // A real user's hash has the same cost parameters, so the check takes the same time.
        let decoy = match users.first() {
            Some(user) => user.password_hash.clone(),
            None => hash_password("nobody")?,
        };
        let by_name = users.into_iter().map(|user| (user.username.clone(), user)).collect();
        let permits = Arc::new(Semaphore::new(CONCURRENT_VERIFICATIONS));
        let places = Semaphore::new(CONCURRENT_VERIFICATIONS + WAITING_CALLERS);
        Ok(Self { by_name, decoy, permits, places })
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
    ) -> Result<Option<&UserRecord>, PasswordError> {
        let _place = self.places.try_acquire().map_err(|_| PasswordError::Busy)?;
        let user = self.by_name.get(username);
        let hash = user.map_or(&self.decoy, |user| &user.password_hash).clone();
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
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

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
        let record = UserRecord {
            username: "alice".to_owned(),
            password_hash: hash_password("demo").unwrap(),
            roles: vec![Role::Customer],
        };
        let users = Users::new(vec![record]).unwrap();
        let demo = || SecretString::from("demo");
        let alice = users.authenticate("alice", demo()).await.unwrap();
        assert_eq!(alice.unwrap().roles, [Role::Customer]);
        assert!(users.authenticate("mallory", demo()).await.unwrap().is_none());
        assert!(users.authenticate("alice", SecretString::from("no")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn callers_wait_for_their_turn_up_to_a_number() {
        let users = Users::new(Vec::new()).unwrap();
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

    #[test]
    fn an_unreadable_hash_is_found_at_start() {
        let record = UserRecord {
            username: "bob".to_owned(),
            password_hash: "plain text".to_owned(),
            roles: Vec::new(),
        };
        let error = Users::new(vec![record]).unwrap_err().to_string();
        assert!(error.contains("bob") && !error.contains("plain text"), "{error}");
    }
}
