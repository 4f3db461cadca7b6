use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

use super::error::KafkaError;

/// TLS 1.3 with a client certificate. The broker must be verified by `roots` and have the name
/// that was dialled.
///
/// # Errors
/// A file is unreadable, or key and certificate do not belong together.
pub(super) fn client(identity: &Path, roots: &Path) -> Result<Arc<ClientConfig>, KafkaError> {
    let mut store = RootCertStore::empty();
    for root in certificates(roots)? {
        store.add(root).map_err(|error| fault(roots, error.to_string()))?;
    }
    let chain = certificates(identity)?;
    let key = PrivateKeyDer::from_pem_file(identity)
        .map_err(|error| unreadable(identity, "private key", &error))?;
    let config = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(store)
        .with_client_auth_cert(chain, key)
        .map_err(|error| fault(identity, error.to_string()))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KafkaError> {
    let unreadable = |error: pem::Error| unreadable(path, "certificate", &error);
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let certificates = certificates.map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(fault(path, "there is no certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn unreadable(path: &Path, what: &str, error: &pem::Error) -> KafkaError {
    // What else there is may quote the file.
    if let pem::Error::Io(error) = error {
        fault(path, error.to_string())
    } else if matches!(error, pem::Error::NoItemsFound) {
        fault(path, format!("there is no {what} in it"))
    } else {
        fault(path, format!("the {what} is not PEM"))
    }
}

fn fault(path: &Path, problem: String) -> KafkaError {
    KafkaError::TlsFile { path: path.to_owned(), problem }
}
