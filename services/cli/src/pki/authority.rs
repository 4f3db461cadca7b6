use std::{fmt, net::IpAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType,
};
use secrecy::SecretString;
use time::OffsetDateTime;

use super::{certificate::Certificate, error::PkiError};

/// How long a root is valid: longer than anything it is used for.
const ROOT_VALIDITY: Duration = Duration::from_hours(10 * 365 * 24);
/// How far back validity begins, because clocks differ.
const LEAF_BACKDATED: Duration = Duration::from_mins(5);
/// The same for an intermediate. Vault backdates what it issues, too, and refuses to issue what
/// begins before the issuer.
const INTERMEDIATE_BACKDATED: Duration = Duration::from_hours(1);

/// A root: its certificate and its key.
pub struct Authority {
    certificate: Certificate,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What a certificate is to say about its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    /// The common name.
    pub name: String,
    /// Where it may be reached.
    pub dns: Vec<String>,
    /// The same by address.
    pub ips: Vec<IpAddr>,
    /// Its [SPIFFE id](super::spiffe_id).
    pub uri: String,
    /// How long it is valid from now.
    pub ttl: Duration,
}

/// A certificate and its key, both PEM; the key is PKCS#8, the only form that Kafka reads.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate alone, without its issuer.
    pub certificate: String,
    /// Its private key.
    pub key: SecretString,
}

impl Authority {
    /// A new root.
    ///
    /// # Errors
    /// The operating system gives no randomness, or the name cannot be one.
    pub fn generate(name: &str, now: OffsetDateTime) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - LEAF_BACKDATED;
        params.not_after = now + ROOT_VALIDITY;
        let pem = params.self_signed(&key).map_err(PkiError::Make)?.pem();
        Self::new(pem, key)
    }

    /// A root that was made before, here or elsewhere (then of another kind of key, perhaps).
    ///
    /// # Errors
    /// The texts are not a certificate and its key, or the certificate is not one of an authority.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key).map_err(|_| PkiError::Key)?;
        Self::new(certificate.to_owned(), key)
    }

    fn new(pem: String, key: KeyPair) -> Result<Self, PkiError> {
        const WHAT: &str = "the authority's certificate";
        let certificate =
            Certificate::from_pem(&pem).ok_or(PkiError::Certificate { what: WHAT })?;
        if !certificate.is_authority() {
            return Err(PkiError::NoAuthority);
        }
        if certificate.public_key() != key.subject_public_key_info() {
            return Err(PkiError::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(|_| PkiError::Certificate { what: WHAT })?;
        Ok(Self { certificate, pem, issuer })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, read.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> SecretString {
        SecretString::from(self.issuer.key().serialize_pem())
    }

    /// A certificate for a server and client, with a key of its own (EC P-256). It ends with the
    /// authority at the latest.
    ///
    /// # Errors
    /// A name cannot be one, the authority has expired, or there is no randomness.
    pub fn issue(&self, request: &LeafRequest, now: OffsetDateTime) -> Result<Leaf, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&request.name);
        params.subject_alt_names = alternative_names(request)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - LEAF_BACKDATED;
        params.not_after = self.end(now, request.ttl)?;
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Make)?;
        Ok(Leaf { certificate: certificate.pem(), key: SecretString::from(key.serialize_pem()) })
    }

    /// The certificate of an authority below this one that may sign leaves only (RFC 5280 section
    /// 4.2.1.9: path length 0), for the holder of the key that the request is about. Of the request
    /// only its name and its key count. PEM.
    ///
    /// # Errors
    /// The request is malformed or not signed with its own key, or this authority has expired.
    pub fn sign_intermediate(
        &self,
        request: &str,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<String, PkiError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request).map_err(|_| PkiError::Request)?;
        let params = &mut request.params;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = Vec::new();
        params.subject_alt_names = Vec::new();
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - INTERMEDIATE_BACKDATED;
        params.not_after = self.end(now, ttl)?;
        Ok(request.signed_by(&self.issuer).map_err(PkiError::Make)?.pem())
    }

    fn end(&self, now: OffsetDateTime, ttl: Duration) -> Result<OffsetDateTime, PkiError> {
        let end = self.certificate.not_after();
        if end <= now { Err(PkiError::Expired) } else { Ok(end.min(now + ttl)) }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn alternative_names(request: &LeafRequest) -> Result<Vec<SanType>, PkiError> {
    // Only ASCII fits (RFC 5280 section 4.2.1.6).
    let text = |name: &str| {
        name.try_into().map_err(|_: rcgen::Error| PkiError::Name { name: name.to_owned() })
    };
    let mut names = vec![SanType::URI(text(&request.uri)?)];
    for name in &request.dns {
        names.push(SanType::DnsName(text(name)?));
    }
    names.extend(request.ips.iter().map(|ip| SanType::IpAddress(*ip)));
    Ok(names)
}
