use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::authority::LeafRequest;

/// A certificate that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    not_after: OffsetDateTime,
    authority: bool,
    common_name: String,
    names: BTreeSet<String>,
}

impl Certificate {
    /// The first certificate of a PEM text; `None` if it cannot be read.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        Self::from_der(der.as_ref())
    }

    /// Every certificate of a PEM text; `None` if one cannot be read.
    pub fn all(pem: &str) -> Option<Vec<Self>> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(|der| Self::from_der(der.ok()?.as_ref()))
            .collect()
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            der: der.to_vec(),
            not_after: parsed.validity().not_after.to_datetime(),
            authority: parsed.is_ca(),
            common_name: common_name(&parsed),
            names: names(&parsed),
        })
    }

    /// When it ends.
    pub const fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Whether it may sign others.
    pub const fn is_authority(&self) -> bool {
        self.authority
    }

    /// Whether it says what was asked for, no less and no more; its times aside.
    pub fn says(&self, request: &LeafRequest) -> bool {
        let ips = request.ips.iter().map(ToString::to_string);
        let wanted = request.dns.iter().cloned().chain(ips).chain([request.uri.clone()]).collect();
        self.common_name == request.name && self.names == wanted
    }

    /// Whether `issuer` signed it.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let Ok((_, own)) = X509Certificate::from_der(&self.der) else { return false };
        let Ok((_, issuer)) = X509Certificate::from_der(&issuer.der) else { return false };
        own.issuer() == issuer.subject() && own.verify_signature(Some(issuer.public_key())).is_ok()
    }

    /// The public key with its kind (RFC 5280 section 4.1.2.7), DER.
    pub(super) fn public_key(&self) -> Vec<u8> {
        X509Certificate::from_der(&self.der)
            .map_or_else(|_| Vec::new(), |(_, own)| own.public_key().raw.to_vec())
    }
}

fn common_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next();
    name.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
}

/// The alternative names as texts. One that is of none of the kinds that we use is kept in a form
/// that equals nothing that anybody asks for.
fn names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    extension.value.general_names.iter().map(name).collect()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is not ours")]
fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) => (*text).to_owned(),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(|o| IpAddr::from(Ipv4Addr::from(o)));
            let v6 = <[u8; 16]>::try_from(*octets).map(|o| IpAddr::from(Ipv6Addr::from(o)));
            v4.or(v6).map_or_else(|_| "no address".to_owned(), |ip| ip.to_string())
        }
        other => format!("other: {other}"),
    }
}
