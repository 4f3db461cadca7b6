use std::{collections::HashMap, fmt};

use argon2::password_hash::phc::PasswordHash;
use serde::Deserialize;

use crate::{
    claims::{Role, valid_subject},
    password::{PasswordError, hash_password},
};

/// A user of the development issuer.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl UserRecord {
    /// Reads a users file: a JSON list of `{"username", "password_hash", "roles"}`.
    ///
    /// # Errors
    /// It is something else. The error quotes nothing of it.
    pub fn parse_list(json: &[u8]) -> Result<Vec<Self>, DirectoryError> {
        serde_json::from_slice(json)
            .map_err(|error| DirectoryError::Json { line: error.line(), column: error.column() })
    }

    fn fault(&self) -> Option<UserFault> {
        if !valid_subject(&self.username) {
            Some(UserFault::Name)
        } else if self.roles.is_empty() {
            Some(UserFault::Roles)
        } else if PasswordHash::new(&self.password_hash).is_err() {
            Some(UserFault::Hash)
        } else {
            None
        }
    }
}

/// Who can log in. Replaced as a whole (see [`crate::Users::following`]).
#[derive(Debug)]
pub struct Directory {
    by_name: HashMap<String, UserRecord>,
    /// What an unknown user's password is checked against.
    decoy: String,
}

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    // Not the parser's own message, which may quote a hash.
    #[error("it is not a list of users (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("the user {name:?} {fault}")]
    User {
        /// Which of the list, from 0.
        index: usize,
        /// What the user would be called.
        name: String,
        /// What is wrong with it.
        fault: UserFault,
    },
    #[error("there is no user, and none can be made up")]
    Decoy(#[from] PasswordError),
}

/// What is wrong with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserFault {
    /// The name cannot be a user id.
    Name,
    /// Another user has the name.
    Twice,
    /// There is no role.
    Roles,
    /// The hash cannot be read.
    Hash,
}

impl fmt::Display for UserFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "has a name that cannot be a user id",
            Self::Twice => "is there twice",
            Self::Roles => "has no role",
            Self::Hash => "has a password hash that is not an argon2 PHC string",
        })
    }
}

impl Directory {
    /// Takes the users if all of them are in order. Takes tens of milliseconds if there are none.
    ///
    /// # Errors
    /// One is not, or is there twice.
    pub fn new(users: Vec<UserRecord>) -> Result<Self, DirectoryError> {
        // A real user's hash has the same cost parameters, so the check takes the same time.
        let decoy = match users.first() {
            Some(user) => user.password_hash.clone(),
            None => hash_password("nobody")?,
        };
        let mut by_name = HashMap::with_capacity(users.len());
        for (index, user) in users.into_iter().enumerate() {
            let name = user.username.clone();
            let twice = || by_name.contains_key(&name).then_some(UserFault::Twice);
            if let Some(fault) = user.fault().or_else(twice) {
                return Err(DirectoryError::User { index, name, fault });
            }
            by_name.insert(name, user);
        }
        Ok(Self { by_name, decoy })
    }

    /// The user of that name, and the hash to check the password against: an unknown user's, too.
    pub(crate) fn look_up(&self, username: &str) -> (Option<&UserRecord>, &str) {
        let user = self.by_name.get(username);
        (user, user.map_or(&self.decoy, |user| &user.password_hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserRecord {
        UserRecord {
            username: name.to_owned(),
            password_hash: hash_password("demo").unwrap(),
            roles: vec![Role::Customer],
        }
    }

    #[test]
    fn the_file_is_a_list_and_an_error_quotes_nothing_of_it() {
        let json = serde_json::json!([
            {"username": "olga", "password_hash": "$argon2id$x", "roles": ["customer", "operator"]},
        ]);
        let users = UserRecord::parse_list(json.to_string().as_bytes()).unwrap();
        assert_eq!((users.len(), users[0].username.as_str()), (1, "olga"));
        assert_eq!(users[0].roles, [Role::Customer, Role::Operator]);
        for bad in [
            r#"{"olga": "secret"}"#,
            r#"[{"username": "olga", "password_hash": "secret", "roles": "secret"}]"#,
            r#"[{"username": "olga", "password_hash": "secret", "roles": ["secret"]}]"#,
            r#"[{"username": "olga", "password_hash": "h", "roles": [], "password": "secret"}]"#,
            "",
        ] {
            let error = UserRecord::parse_list(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("line 1") || bad.is_empty(), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_user_who_is_not_in_order_is_named() {
        let fault = |change: fn(&mut UserRecord)| {
            let mut second = user("bob");
            change(&mut second);
            let secret = second.password_hash.clone();
            let error = Directory::new(vec![user("alice"), second]).unwrap_err();
            assert!(!error.to_string().contains(&secret), "{error}");
            let DirectoryError::User { index: 1, fault, .. } = error else { panic!("{error}") };
            fault
        };
        assert_eq!(fault(|user| user.username = "a\nb".to_owned()), UserFault::Name);
        assert_eq!(fault(|user| user.username = "alice".to_owned()), UserFault::Twice);
        assert_eq!(fault(|user| user.roles.clear()), UserFault::Roles);
        assert_eq!(fault(|user| user.password_hash = "plain text".to_owned()), UserFault::Hash);
    }
}
