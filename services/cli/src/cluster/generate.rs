//! Secrets out of nothing.

use aws_lc_rs::{rand, signature::Ed25519KeyPair};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::SecretString;

/// The operating system gives no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no secret can be generated")]
pub(crate) struct NoRandomness;

/// 32 random bytes in URL-safe base64 (RFC 4648 section 5): nothing in it needs quoting.
///
/// # Errors
/// There is no randomness.
pub(crate) fn random_value() -> Result<SecretString, NoRandomness> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
}

/// An Ed25519 key for signing tokens: PKCS#8 PEM, version 1, which every tool reads.
///
/// # Errors
/// There is no randomness.
pub(crate) fn signing_key() -> Result<SecretString, NoRandomness> {
    let key = Ed25519KeyPair::generate().map_err(|_| NoRandomness)?;
    let document = key.to_pkcs8v1().map_err(|_| NoRandomness)?;
    let body = STANDARD.encode(document.as_ref());
    Ok(SecretString::from(format!(
        "-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
    )))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_value_is_long_new_and_needs_no_quoting() {
        let (a, b) = (random_value().unwrap(), random_value().unwrap());
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(a.expose_secret().len(), 43);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(a.expose_secret().chars().all(plain));
    }

    #[test]
    fn a_signing_key_can_be_read_back() {
        let pem = signing_key().unwrap();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose_secret().as_bytes()).unwrap();
        Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    }
}
