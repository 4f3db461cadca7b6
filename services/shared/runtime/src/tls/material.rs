use std::sync::Arc;

use portolan_kernel::{Clock as _, SystemClock};
use rustls::{
    RootCertStore,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, time::ASN1Time,
};

use super::{Domain, SpiffeId, TlsError};

/// A certificate with its key, in use as ours.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) id: SpiffeId,
    pub(super) expires: OffsetDateTime,
}

impl Identity {
    /// Accepts what others of the mesh will accept: a chain with the matching key, valid now, with
    /// an id of this installation.
    pub(super) fn parse(
        pem: &[u8],
        domain: &Domain,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let (key, expires) = certified(pem, provider)?;
        let id = spiffe_id(key.end_entity_cert().map_err(|_| TlsError::NoCertificate)?)?;
        if id.component(domain).is_none() {
            return Err(TlsError::Foreign(id));
        }
        Ok(Self { key: Arc::new(key), id, expires })
    }
}

/// Checks a PEM file of a certificate, its issuer and its key, as other libraries take it: the
/// parts are there, the key belongs to the certificate, and the certificate is valid now. Returns
/// when it expires.
///
/// # Errors
/// Something is missing, malformed, of another certificate, or out of its time.
pub fn check_identity(pem: &[u8]) -> Result<OffsetDateTime, TlsError> {
    certified(pem, &rustls::crypto::aws_lc_rs::default_provider()).map(|(_, expires)| expires)
}

/// Checks a PEM file of trusted certificates. Returns how many there are.
///
/// # Errors
/// There is none, or one is malformed.
pub fn check_roots(pem: &[u8]) -> Result<usize, TlsError> {
    root_store(pem).map(|store| store.len())
}

pub(super) fn certified(
    pem: &[u8],
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, OffsetDateTime), TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| TlsError::Pem)?;
    let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
    let expires = lifetime(leaf)?;
    let mut keys = PrivateKeyDer::pem_slice_iter(pem);
    let key = keys.next().ok_or(TlsError::NoKey)?.map_err(|_| TlsError::Pem)?;
    if keys.next().is_some() {
        return Err(TlsError::ManyKeys);
    }
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|_| TlsError::Key)?;
    Ok((key, expires))
}

/// Whether the certificate is valid now. Returns until when.
fn lifetime(certificate: &CertificateDer<'_>) -> Result<OffsetDateTime, TlsError> {
    let certificate = x509(certificate)?;
    let validity = certificate.validity();
    let now = SystemClock.now().unix_timestamp();
    if now < validity.not_before.timestamp() {
        return Err(TlsError::NotYetValid(utc(validity.not_before)?));
    }
    let expires = utc(validity.not_after)?;
    if now >= expires.unix_timestamp() {
        return Err(TlsError::Expired(expires));
    }
    Ok(expires)
}

fn utc(time: ASN1Time) -> Result<OffsetDateTime, TlsError> {
    OffsetDateTime::from_unix_timestamp(time.timestamp()).map_err(|_| TlsError::Certificate)
}

/// The one SPIFFE id of a certificate. One with several URIs would be several peers at once, so it
/// is none.
pub(super) fn spiffe_id(certificate: &CertificateDer<'_>) -> Result<SpiffeId, TlsError> {
    let certificate = x509(certificate)?;
    let names = certificate.subject_alternative_name().map_err(|_| TlsError::Certificate)?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // It might have been meant to be one.
            GeneralName::Invalid(..) => return Err(TlsError::Certificate),
            GeneralName::DNSName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RFC822Name(_)
            | GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    match uris.as_slice() {
        [uri] => Ok(SpiffeId::parse(uri)?),
        other => Err(TlsError::UriNames(other.len())),
    }
}

fn x509<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(TlsError::Certificate),
    }
}

/// Whom we trust, with the verifiers made for it.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) servers: Arc<WebPkiServerVerifier>,
}

impl Roots {
    pub(super) fn parse(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let store = Arc::new(root_store(pem)?);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(provider));
        let servers = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(provider));
        Ok(Self {
            clients: clients.build().map_err(|_| TlsError::NoRoots)?,
            servers: servers.build().map_err(|_| TlsError::NoRoots)?,
        })
    }
}

pub(super) fn root_store(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| TlsError::Pem)?;
        store.add(certificate).map_err(|_| TlsError::Certificate)?;
    }
    if store.is_empty() { Err(TlsError::NoRoots) } else { Ok(store) }
}
