use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::EncodingKey;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use crate::jwk::{Jwk, Jwks, KeySet};

/// The keys of the development issuer: the first signs, all of them are published and verify.
///
/// A ring is replaced as a whole (see [`crate::Issuer::following`]). To change the signing key
/// without a token being refused, with any number of processes that each read the file a little
/// later than the other:
///
/// 1. put the new key *behind* the old one, and wait until every process has read it, and until
///    whoever keeps `/.well-known/jwks.json` for its `max-age` has fetched it again;
/// 2. put it first, and wait for as long as a token is valid, and for [`crate::LEEWAY`];
/// 3. take the old one away.
///
/// A key that has leaked is taken away at once: its tokens are refused from then on.
#[derive(Clone)]
pub struct KeyRing {
    signing: EncodingKey,
    signing_kid: Option<String>,
    public: Jwks,
    verification: KeySet,
}

/// Why a text is no key ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    #[error("it is not PEM text")]
    Pem,
    #[error("it holds no private key")]
    Empty,
    #[error("part {0} of it is not an Ed25519 private key in PKCS#8 form")]
    Kind(usize),
}

impl KeyRing {
    /// Reads Ed25519 keys in PKCS#8 PEM form (RFC 8410, RFC 7468), one after the other. Text between
    /// them is ignored, a key that is there twice counts once.
    ///
    /// # Errors
    /// There is no key, or something that is none.
    pub fn parse(pem: &[u8]) -> Result<Self, KeyRingError> {
        let (mut first, mut keys) = (None, Vec::<Jwk>::new());
        for (index, section) in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).enumerate() {
            let (kind, der) = section.map_err(|_| KeyRingError::Pem)?;
            let pair = key_pair(kind, &der).ok_or(KeyRingError::Kind(index + 1))?;
            let public = Jwk::ed25519(pair.public_key().as_ref());
            first.get_or_insert(der);
            if !keys.contains(&public) {
                keys.push(public);
            }
        }
        let der = first.ok_or(KeyRingError::Empty)?;
        Ok(Self {
            signing: EncodingKey::from_ed_der(&der),
            signing_kid: keys.first().and_then(|key| key.kid.clone()),
            verification: KeySet::from_keys(keys.iter().cloned()),
            public: Jwks { keys },
        })
    }

    /// The public halves, the signing key's first.
    pub const fn jwks(&self) -> &Jwks {
        &self.public
    }

    pub(crate) const fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    /// The name of the signing key in token headers.
    pub(crate) const fn signing_kid(&self) -> Option<&String> {
        self.signing_kid.as_ref()
    }

    pub(crate) const fn verification(&self) -> &KeySet {
        &self.verification
    }
}

fn key_pair(kind: SectionKind, der: &[u8]) -> Option<Ed25519KeyPair> {
    (kind == SectionKind::PrivateKey).then(|| Ed25519KeyPair::from_pkcs8(der).ok())?
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.public.keys.iter().filter_map(|key| key.kid.as_deref()).collect();
        f.debug_struct("KeyRing").field("kids", &kids).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::key_file::new_key;

    fn section(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    fn parse(text: &str) -> Result<KeyRing, KeyRingError> {
        KeyRing::parse(text.as_bytes())
    }

    #[test]
    fn the_first_key_signs_and_all_are_published_in_their_order() {
        let (old, new) = (new_key().unwrap(), new_key().unwrap());
        let ring = parse(&format!("the new one\n{new}and the old one\n{old}{new}")).unwrap();
        let kids: Vec<_> = ring.jwks().keys.iter().map(|key| key.kid.clone()).collect();
        let only = |pem: &str| parse(pem).unwrap().jwks().keys[0].kid.clone();
        assert_eq!(kids, [only(&new), only(&old)]);
        assert_eq!(ring.signing_kid(), kids[0].as_ref());
    }

    #[test]
    fn both_versions_of_the_format_are_read() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let (old, new) = (pair.to_pkcs8v1().unwrap(), pair.to_pkcs8().unwrap());
        let jwks = |der: &[u8]| parse(&section("PRIVATE KEY", der)).unwrap().jwks().clone();
        assert_eq!(jwks(old.as_ref()), jwks(new.as_ref()));
    }

    #[test]
    fn what_is_not_a_ring_is_refused_and_the_faulty_part_counted() {
        let key = new_key().unwrap();
        assert_eq!(parse("").unwrap_err(), KeyRingError::Empty);
        assert_eq!(parse("remember the milk").unwrap_err(), KeyRingError::Empty);
        assert_eq!(parse(&key[..key.len() - 10]).unwrap_err(), KeyRingError::Pem);
        let rubbish = section("PRIVATE KEY", b"rubbish");
        assert_eq!(parse(&format!("{key}{rubbish}")).unwrap_err(), KeyRingError::Kind(2));
        let certificate = section("CERTIFICATE", b"rubbish");
        assert_eq!(parse(&format!("{certificate}{key}")).unwrap_err(), KeyRingError::Kind(1));
    }

    #[test]
    fn the_private_half_does_not_show_in_debug_output() {
        let pem = new_key().unwrap();
        let ring = parse(&pem).unwrap();
        let shown = format!("{ring:?}");
        assert!(shown.contains(ring.signing_kid().unwrap()));
        assert!(!shown.contains(pem.lines().nth(1).unwrap()));
    }
}
