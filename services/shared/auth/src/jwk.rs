use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The smallest RSA key that is accepted, in bytes of the modulus (RFC 7518 section 3.3).
const MIN_RSA_BYTES: usize = 2048 / 8;

/// The key set document of `/.well-known/jwks.json` (RFC 7517 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys. Those of kinds that are not supported are ignored.
    pub keys: Vec<Jwk>,
}

/// The public half of a signing key (RFC 7517, RFC 8037 for Ed25519).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// The kind of key: `OKP` (Ed25519) or `RSA`.
    pub kty: String,
    /// The key's name in token headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The algorithm it is for: `EdDSA` or `RS256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// What it is for: `sig`.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// The curve of an `OKP` key: `Ed25519`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// The public key of an `OKP` key, base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// The modulus of an `RSA` key, base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// The exponent of an `RSA` key, base64url.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
}

impl Jwk {
    /// The document entry of an Ed25519 public key, named by its RFC 7638 thumbprint.
    pub(crate) fn ed25519(public_key: &[u8]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(public_key);
        Self {
            kty: "OKP".to_owned(),
            kid: Some(thumbprint(&x)),
            alg: Some("EdDSA".to_owned()),
            usage: Some("sig".to_owned()),
            crv: Some("Ed25519".to_owned()),
            x: Some(x),
            ..Self::default()
        }
    }

    /// The one algorithm that signatures of this key may have, and the key: `None` for kinds,
    /// curves, sizes and uses that are not supported.
    fn verification_key(&self) -> Option<VerificationKey> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (name, algorithm, key) = match self.kty.as_str() {
            "OKP" if self.crv.as_deref() == Some("Ed25519") => {
                let x = self.x.as_deref()?;
                let plausible = URL_SAFE_NO_PAD.decode(x).is_ok_and(|bytes| bytes.len() == 32);
                let key = plausible.then(|| DecodingKey::from_ed_components(x).ok())??;
                ("EdDSA", Algorithm::EdDSA, key)
            }
            "RSA" => {
                let (n, e) = (self.n.as_deref()?, self.e.as_deref()?);
                let modulus = URL_SAFE_NO_PAD.decode(n).ok()?;
                let strong = modulus.iter().skip_while(|byte| **byte == 0).count() >= MIN_RSA_BYTES;
                let key = strong.then(|| DecodingKey::from_rsa_components(n, e).ok())??;
                ("RS256", Algorithm::RS256, key)
            }
            _ => return None,
        };
        let usable = self.alg.as_deref().is_none_or(|alg| alg == name);
        usable.then_some(VerificationKey { algorithm, key })
    }
}

/// RFC 7638: SHA-256 of the required members in lexicographic order, without white space.
fn thumbprint(x: &str) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical.as_bytes()))
}

/// A public key with the one algorithm it is used with, so that a token cannot choose another.
#[derive(Clone)]
pub(crate) struct VerificationKey {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

impl std::fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The usable keys of a document by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet(HashMap<String, VerificationKey>);

impl KeySet {
    /// Reads a document, entry by entry: one that is not understood does not spoil the others.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Lenient {
            keys: Vec<serde_json::Value>,
        }
        let lenient: Lenient = serde_json::from_slice(document)?;
        let keys = lenient.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self::from_keys(keys))
    }

    pub(crate) fn from_keys(keys: impl IntoIterator<Item = Jwk>) -> Self {
        let named = keys.into_iter().filter_map(|jwk| {
            let key = jwk.verification_key()?;
            Some((jwk.kid?, key))
        });
        Self(named.collect())
    }

    pub(crate) fn get(&self, kid: &str) -> Option<&VerificationKey> {
        self.0.get(kid)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.2 and A.3.
    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let jwk = Jwk::ed25519(&URL_SAFE_NO_PAD.decode(x).unwrap());
        assert_eq!(jwk.kid.as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
        assert_eq!(jwk.x.as_deref(), Some(x));
    }

    #[test]
    fn keys_that_are_not_supported_are_skipped_and_the_others_kept() {
        let good = Jwk::ed25519(&[7; 32]);
        let document = serde_json::json!({"keys": [
            good,
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"},
            {"kty": "oct", "kid": "shared-secret", "k": "AA", "alg": "HS256"},
            {"kty": "RSA", "kid": "short", "n": URL_SAFE_NO_PAD.encode([255; 128]), "e": "AQAB"},
            {"kty": "OKP", "kid": "for-encryption", "use": "enc", "crv": "Ed25519", "x": good.x},
            {"kty": "OKP", "kid": "wrong-alg", "alg": "RS256", "crv": "Ed25519", "x": good.x},
            {"kty": "OKP", "kid": "short-x", "crv": "Ed25519", "x": "AA"},
            {"kty": "OKP", "crv": "Ed25519", "x": good.x},
            {"kty": 7},
        ]});
        let keys = KeySet::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys.get(good.kid.as_deref().unwrap()).is_some());
        assert!(KeySet::parse(b"<html>").is_err());
    }
}
