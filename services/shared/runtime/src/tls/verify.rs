//! Whom a handshake accepts: what `rustls` accepts by the rules of the web, with exactly one SPIFFE id, and of a server the
//! id that was expected.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, ServerConnection, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    PeerIdentity, SpiffeId, TlsError,
    material::{Identity, Roots, spiffe_id},
};
use crate::files::Watched;

/// Shows the current certificate in every handshake, in both directions.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Watched<Identity>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().key))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Shows one certificate, whatever the server asks for.
#[derive(Debug)]
pub(super) struct Always(pub(super) Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies those who call us.
#[derive(Debug)]
pub(super) struct CallerVerifier {
    pub(super) roots: Watched<Roots>,
    pub(super) trust_domain: String,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for CallerVerifier {
    /// No hints: they could not change with the roots, and our clients have one certificate only.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let roots = self.roots.current();
        let verified = roots.clients.verify_client_cert(certificate, intermediates, now)?;
        let id = spiffe_id(certificate).map_err(refused)?;
        if id.trust_domain() != self.trust_domain {
            return Err(refused(TlsError::Foreign(id)));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies one component that we call: the name that was dialled and the id that it must have.
#[derive(Debug)]
pub(super) struct CalleeVerifier {
    pub(super) roots: Watched<Roots>,
    pub(super) expected: SpiffeId,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for CalleeVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let servers = Arc::clone(&self.roots.current().servers);
        let verified =
            servers.verify_server_cert(certificate, intermediates, dialled, ocsp, now)?;
        let id = spiffe_id(certificate).map_err(refused)?;
        if id != self.expected {
            let expected = self.expected.clone();
            return Err(refused(TlsError::Unexpected { id, expected }));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Who is at the other end of a connection whose handshake is done.
pub(crate) fn peer(connection: &ServerConnection) -> Result<PeerIdentity, TlsError> {
    let certificates = connection.peer_certificates().unwrap_or_default();
    Ok(PeerIdentity(spiffe_id(certificates.first().ok_or(TlsError::NoCertificate)?)?))
}

fn refused(error: TlsError) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// Never reached: our configurations offer TLS 1.3 alone.
fn too_old() -> Error {
    PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}
