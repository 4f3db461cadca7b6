use std::time::Duration;

use portolan_kernel::{Clock as _, SystemClock};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

/// How long before now certificates begin.
const BACKDATED: Duration = Duration::from_hours(1);
const LONG: Duration = Duration::from_hours(24);

/// A certificate authority for one test, with the two levels that a deployment has: a root that
/// everybody trusts, and an issuer below it.
pub struct TestCa {
    root: CertifiedIssuer<'static, KeyPair>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestCa {
    /// Makes the keys.
    #[expect(clippy::new_without_default, reason = "every one is another")]
    pub fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority("Test root"), key());
        let root = root.expect("a self-signed certificate");
        let issuer = CertifiedIssuer::signed_by(authority("Test issuer"), key(), &root);
        Self { root, issuer: issuer.expect("a certificate of the root") }
    }

    /// The root, as PEM.
    pub fn roots(&self) -> String {
        self.root.pem()
    }

    /// A client's certificate with its issuer and its PKCS#8 key in one PEM text, as an agent
    /// writes it. `name` is the common name; it expires after `lifetime`.
    pub fn client(&self, name: &str, lifetime: Duration) -> String {
        let (leaf, key) = leaf(name, &[], lifetime, &self.issuer);
        format!("{leaf}{}{key}", self.issuer.pem())
    }

    /// What every leaf says; to be completed and given to [`TestCa::issue`].
    pub(crate) fn leaf(name: &str) -> CertificateParams {
        leaf_params(name, &[], LONG)
    }

    /// A certificate that says just this, with its issuer and its PKCS#8 key in one PEM text.
    pub fn issue(&self, params: &CertificateParams) -> String {
        let key = key();
        let leaf = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        format!("{}{}{}", leaf.pem(), self.issuer.pem(), key.serialize_pem())
    }

    /// A server's certificate, directly from the root, and its PKCS#8 key in one PEM text.
    pub fn server(&self, name: &str, hosts: &[&str]) -> String {
        let (leaf, key) = leaf(name, hosts, LONG, &self.root);
        format!("{key}{leaf}")
    }
}

impl std::fmt::Debug for TestCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn params(name: &str, hosts: &[&str], lifetime: Duration) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("host names");
    params.distinguished_name.push(DnType::CommonName, name);
    let now: OffsetDateTime = SystemClock.now();
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, &[], LONG);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(
    name: &str,
    hosts: &[&str],
    lifetime: Duration,
    issuer: &Issuer<'_, KeyPair>,
) -> (String, String) {
    let key = key();
    let params = leaf_params(name, hosts, lifetime);
    let certificate = params.signed_by(&key, issuer).expect("a signed certificate");
    (certificate.pem(), key.serialize_pem())
}

fn leaf_params(name: &str, hosts: &[&str], lifetime: Duration) -> CertificateParams {
    let mut params = params(name, hosts, lifetime);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params
}
