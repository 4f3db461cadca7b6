use std::{fmt, path::Path, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header, encode};
use secrecy::SecretString;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    claims::Role,
    jwk::Jwks,
    key_file::{KeyFileError, create_key_file, load},
    key_ring::KeyRing,
};

/// Signs tokens for the demo users with keys of its own: for development and demonstration, off
/// unless it is configured. The gateway and the command line use the same key file.
#[derive(Clone)]
pub struct Issuer {
    name: String,
    audience: String,
    keys: watch::Receiver<Arc<KeyRing>>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("name", &self.name)
            .field("audience", &self.audience)
            .field("keys", &self.keys.borrow())
            .finish_non_exhaustive()
    }
}

/// Why no token was signed.
#[derive(Debug, thiserror::Error)]
#[error("the token cannot be signed")]
pub struct IssuerError(#[from] jsonwebtoken::errors::Error);

#[derive(Serialize)]
struct NewClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    roles: &'a [Role],
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

impl Issuer {
    /// Reads the key file once (Ed25519, PKCS#8 PEM), creating it with mode 0600 and a new key if it
    /// is missing.
    ///
    /// # Errors
    /// The file can be neither read nor created, or holds something else.
    pub fn open(key_file: &Path, name: &str, audience: &str) -> Result<Self, KeyFileError> {
        create_key_file(key_file)?;
        let (_, keys) = watch::channel(Arc::new(load(key_file)?));
        Ok(Self::following(keys, name, audience))
    }

    /// Signs with the keys that are current at the time of each token.
    pub fn following(keys: watch::Receiver<Arc<KeyRing>>, name: &str, audience: &str) -> Self {
        Self { name: name.to_owned(), audience: audience.to_owned(), keys }
    }

    /// A token for the subject, valid from now for `ttl`. `jti` is the token's id.
    ///
    /// # Errors
    /// The cryptography fails; it does not for any input.
    pub fn issue(
        &self,
        subject: &str,
        roles: &[Role],
        now: OffsetDateTime,
        ttl: Duration,
        jti: Uuid,
    ) -> Result<SecretString, IssuerError> {
        let now = now.unix_timestamp();
        let claims = NewClaims {
            iss: &self.name,
            aud: &self.audience,
            sub: subject,
            roles,
            iat: now,
            nbf: now,
            exp: now.saturating_add_unsigned(ttl.as_secs()),
            jti,
        };
        let keys = self.current();
        let header = Header { kid: keys.signing_kid().cloned(), ..Header::new(Algorithm::EdDSA) };
        Ok(SecretString::from(encode(&header, &claims, keys.signing())?))
    }

    /// The public halves of the keys, for `/.well-known/jwks.json`.
    pub fn jwks(&self) -> Jwks {
        self.current().jwks().clone()
    }

    fn current(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.borrow())
    }
}
