use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use portolan_kernel::Clock;
use tokio::sync::watch;

use crate::{
    bearer::MAX_TOKEN_BYTES,
    claims::{Claims, valid_subject},
    error::{AuthError, InvalidToken},
    jwk::{Jwks, KeySet, VerificationKey},
    key_ring::KeyRing,
    remote::RemoteKeys,
};

/// How far the issuer's clock and ours may differ.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Decides whether a token is genuine, for us, and in force.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    issuer: String,
    audience: String,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
enum Keys {
    Static(KeySet),
    Following(watch::Receiver<Arc<KeyRing>>),
    Remote(Arc<RemoteKeys>),
}

impl Verifier {
    /// Accepts tokens signed with the keys of a document.
    pub fn with_static(
        keys: Jwks,
        issuer: impl Into<String>,
        audience: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let keys = Keys::Static(KeySet::from_keys(keys.keys));
        Self { keys, issuer: issuer.into(), audience: audience.into(), clock }
    }

    /// Accepts tokens signed with any of the keys that are current when the token arrives: those of
    /// our own [`crate::Issuer`].
    pub fn following(
        keys: watch::Receiver<Arc<KeyRing>>,
        issuer: impl Into<String>,
        audience: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let keys = Keys::Following(keys);
        Self { keys, issuer: issuer.into(), audience: audience.into(), clock }
    }

    /// Accepts tokens signed with the keys that an identity provider publishes.
    pub fn from_jwks_url(
        keys: RemoteKeys,
        issuer: impl Into<String>,
        audience: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let keys = Keys::Remote(Arc::new(keys));
        Self { keys, issuer: issuer.into(), audience: audience.into(), clock }
    }

    /// The claims of a token.
    ///
    /// # Errors
    /// It is refused, or the keys to judge it by cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid(InvalidToken::TooLarge));
        }
        let kid = key_id(token).map_err(AuthError::Invalid)?;
        let claims = match &self.keys {
            Keys::Static(keys) => self.check_with(token, &kid, keys),
            Keys::Following(keys) => {
                let ring = Arc::clone(&keys.borrow());
                self.check_with(token, &kid, ring.verification())
            }
            Keys::Remote(keys) => self.check(token, &keys.get(&kid).await?),
        };
        claims.map_err(AuthError::Invalid)
    }

    fn check_with(&self, token: &str, kid: &str, keys: &KeySet) -> Result<Claims, InvalidToken> {
        self.check(token, keys.get(kid).ok_or(InvalidToken::UnknownKey)?)
    }

    fn check(&self, token: &str, key: &VerificationKey) -> Result<Claims, InvalidToken> {
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        // The library would ask the machine's clock; ours is an input.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, &key.key, &validation)
            .map_err(|error| refusal(error.kind()))?
            .claims;
        self.check_times(&claims)?;
        if valid_subject(&claims.sub) { Ok(claims) } else { Err(InvalidToken::Subject) }
    }

    fn check_times(&self, claims: &Claims) -> Result<(), InvalidToken> {
        let now = self.clock.now().unix_timestamp();
        let leeway = LEEWAY.as_secs();
        if claims.exp.saturating_add_unsigned(leeway) <= now {
            return Err(InvalidToken::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now.saturating_add_unsigned(leeway)) {
            return Err(InvalidToken::NotYetValid);
        }
        Ok(())
    }
}

/// The name of the key in the header. Nothing else in an unverified header is followed: not `jku`,
/// not `x5u`, not `jwk`; and `crit` demands what we do not have (RFC 7515 section 4.1.11).
fn key_id(token: &str) -> Result<String, InvalidToken> {
    let header = decode_header(token).map_err(|error| {
        // `none` and other names outside the library's list.
        let unknown_name = matches!(error.kind(), ErrorKind::Json(_));
        if unknown_name && token.split('.').count() == 3 {
            InvalidToken::Algorithm
        } else {
            InvalidToken::Malformed
        }
    })?;
    if header.crit.is_some() {
        return Err(InvalidToken::Malformed);
    }
    header.kid.filter(|kid| !kid.is_empty()).ok_or(InvalidToken::MissingKeyId)
}

/// The library's list of failures may grow, so this is no exhaustive match.
fn refusal(kind: &ErrorKind) -> InvalidToken {
    use ErrorKind as Kind;
    if matches!(kind, Kind::InvalidSignature) {
        InvalidToken::Signature
    } else if matches!(kind, Kind::InvalidAlgorithm | Kind::UnsupportedAlgorithm) {
        InvalidToken::Algorithm
    } else if matches!(kind, Kind::InvalidIssuer) {
        InvalidToken::Issuer
    } else if matches!(kind, Kind::InvalidAudience) {
        InvalidToken::Audience
    } else if matches!(
        kind,
        Kind::MissingRequiredClaim(_) | Kind::InvalidClaimFormat(_) | Kind::Json(_)
    ) {
        InvalidToken::Claims
    } else {
        InvalidToken::Malformed
    }
}
