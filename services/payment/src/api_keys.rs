//! The secret by which the provider knows its customer, as both sides read it from a file.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::HeaderValue;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const MAX_KEY: usize = 500;
const SCHEME: &str = "Bearer";

/// The API key, and the one before it while that still counts.
///
/// The two sides read a new key at different moments, in either order. So the provider accepts
/// both, and its customer shows the previous one where the new one is refused: then no call fails
/// while the key is replaced. The previous key is taken out of the file when both sides have
/// read the new one.
#[derive(Clone)]
pub struct ApiKeys {
    current: Key,
    previous: Option<Key>,
}

/// A key as it is shown, and as it is compared.
#[derive(Clone)]
struct Key {
    authorization: HeaderValue,
    digest: [u8; 32],
}

/// Why a text holds no keys. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeysError {
    #[error("it is not {{\"api_key\": …}} (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("{0} is not 1 to {MAX_KEY} printable ASCII characters")]
    Key(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    api_key: String,
    previous_api_key: Option<String>,
}

impl ApiKeys {
    /// Reads `{"api_key": "…", "previous_api_key": "…"}`; the second may be missing, null or empty.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(json: &[u8]) -> Result<Self, ApiKeysError> {
        let file: File = serde_json::from_slice(json)
            .map_err(|error| ApiKeysError::Json { line: error.line(), column: error.column() })?;
        let previous = file.previous_api_key.filter(|key| !key.is_empty());
        Ok(Self {
            current: Key::new("api_key", &file.api_key)?,
            previous: previous.map(|key| Key::new("previous_api_key", &key)).transpose()?,
        })
    }

    /// What to send as `Authorization` (RFC 6750). It does not show in debug output.
    pub(crate) fn authorization(&self) -> HeaderValue {
        self.current.authorization.clone()
    }

    /// What to send where that is refused.
    pub(crate) fn previous_authorization(&self) -> Option<HeaderValue> {
        self.previous.as_ref().map(|key| key.authorization.clone())
    }

    /// Whether an `Authorization` shows one of the keys. Takes the same time for every wrong one,
    /// wherever it begins to differ.
    pub(crate) fn accept(&self, authorization: &HeaderValue) -> bool {
        let Some(shown) = credentials(authorization.as_bytes()) else { return false };
        let shown = Sha256::digest(shown);
        let fits = |key: &Key| verify_slices_are_equal(&key.digest, &shown).is_ok();
        // Both are compared, whatever the first says.
        let (current, previous) = (fits(&self.current), self.previous.as_ref().is_some_and(fits));
        current | previous
    }
}

/// What follows the scheme, whose case does not count (RFC 9110 section 11.1).
fn credentials(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME.as_bytes()).then(|| rest.strip_prefix(b" "))?
}

impl Key {
    fn new(field: &'static str, key: &str) -> Result<Self, ApiKeysError> {
        let printable = key.bytes().all(|byte| byte.is_ascii_graphic());
        let usable = printable && (1..=MAX_KEY).contains(&key.len());
        let authorization = HeaderValue::try_from(format!("{SCHEME} {key}")).ok();
        let mut authorization = authorization.filter(|_| usable).ok_or(ApiKeysError::Key(field))?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, digest: Sha256::digest(key).into() })
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(json: &str) -> Result<ApiKeys, ApiKeysError> {
        ApiKeys::parse(json.as_bytes())
    }

    fn accepted(keys: &ApiKeys, authorization: &'static str) -> bool {
        keys.accept(&HeaderValue::from_static(authorization))
    }

    #[test]
    fn both_keys_are_accepted_and_nothing_else() {
        let both = keys(r#"{"api_key": "new", "previous_api_key": "old"}"#).unwrap();
        for right in ["Bearer new", "Bearer old", "bearer new"] {
            assert!(accepted(&both, right), "{right}");
        }
        for wrong in [
            "",
            "new",
            "Bearer",
            "Bearer ",
            "Bearer ne",
            "Bearer newer",
            "Bearer  new",
            "Bearer new ",
            "Basic new",
            "Bearer New",
            "Bearernew",
        ] {
            assert!(!accepted(&both, wrong), "{wrong}");
        }
        for alone in [
            r#"{"api_key": "new"}"#,
            r#"{"api_key": "new", "previous_api_key": ""}"#,
            r#"{"api_key": "new", "previous_api_key": null}"#,
        ] {
            let alone = keys(alone).unwrap();
            assert!(accepted(&alone, "Bearer new") && !accepted(&alone, "Bearer old"));
            assert!(!accepted(&alone, "Bearer ") && alone.previous_authorization().is_none());
        }
    }

    #[test]
    fn what_is_shown_is_accepted() {
        let both = keys(r#"{"api_key": "new", "previous_api_key": "old"}"#).unwrap();
        assert!(both.accept(&both.authorization()));
        assert!(both.accept(&both.previous_authorization().unwrap()));
    }

    #[test]
    fn neither_an_error_nor_debug_output_shows_a_key() {
        for bad in [
            r#"{"api_key": "se cret"}"#,
            r#"{"api_key": "", "previous_api_key": "secret"}"#,
            r#"{"api_key": "x", "previous_api_key": "se\ncret"}"#,
            r#"{"api_key": "x", "last_key": "secret"}"#,
            r#"{"api_key": ["secret"]}"#,
            r#""secret""#,
            "secret",
            "",
        ] {
            let error = keys(bad).unwrap_err().to_string();
            assert!(!error.contains("cret"), "{error}");
        }
        let good = keys(r#"{"api_key": "secret", "previous_api_key": "secret2"}"#).unwrap();
        let shown = format!("{good:?} {:?}", good.authorization());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
