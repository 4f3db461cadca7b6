use std::{fmt, path::Path, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::SecretString;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    claims::Role,
    jwk::{Jwk, Jwks},
    key_file::{KeyFileError, load_or_create},
};

/// Signs tokens for the demo users with a key of its own: for development and demonstration, off
/// unless it is configured. The gateway and the command line use the same key file.
#[derive(Clone)]
pub struct Issuer {
    name: String,
    audience: String,
    key: EncodingKey,
    public: Jwk,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("name", &self.name)
            .field("audience", &self.audience)
            .field("kid", &self.public.kid)
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
    /// Opens the key file (Ed25519, PKCS#8 PEM), creating it with mode 0600 and a new key if it is
    /// missing.
    ///
    /// # Errors
    /// The file can be neither read nor created, or holds something else.
    pub fn open(key_file: &Path, name: &str, audience: &str) -> Result<Self, KeyFileError> {
        let der = load_or_create(key_file)?;
        let pair = Ed25519KeyPair::from_pkcs8(&der)
            .map_err(|_| KeyFileError::Format { path: key_file.to_owned() })?;
        Ok(Self {
            name: name.to_owned(),
            audience: audience.to_owned(),
            key: EncodingKey::from_ed_der(&der),
            public: Jwk::ed25519(pair.public_key().as_ref()),
        })
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
        let header = Header { kid: self.public.kid.clone(), ..Header::new(Algorithm::EdDSA) };
        Ok(SecretString::from(encode(&header, &claims, &self.key)?))
    }

    /// The public half of the key, for `/.well-known/jwks.json` and for a [`crate::Verifier`].
    pub fn jwks(&self) -> Jwks {
        Jwks { keys: vec![self.public.clone()] }
    }
}
