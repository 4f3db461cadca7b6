//! Mutual TLS between the processes of the shop.
//!
//! Each process has one certificate whose only URI is its SPIFFE id, and one file of roots. Both
//! are read again while it runs; what is new counts from the next handshake on. Sessions are never
//! resumed, because a resumed session would skip the verification and outlive a removed root. TLS
//! 1.3 only.

mod config;
mod files;
mod handle;
mod material;
mod spiffe;
mod verify;

use time::OffsetDateTime;

pub use config::{Domain, TlsConfig};
pub use files::{Changes, ClientFiles};
pub use handle::Tls;
pub use material::{check_identity, check_roots};
pub use spiffe::{SpiffeError, SpiffeId};
pub(crate) use verify::peer;

use crate::{files::FileError, metrics::unix_seconds};

/// Who is at the other end of a connection, verified. An extension of each request that came over
/// mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity(pub SpiffeId);

/// Why a certificate, a key or a set of roots is of no use. No variant quotes key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file of the configuration.
    #[error(transparent)]
    File(#[from] FileError),
    /// A section of PEM is cut off or not base64.
    #[error("not complete PEM")]
    Pem,
    /// There is no certificate.
    #[error("no certificate in it")]
    NoCertificate,
    /// There is no key.
    #[error("no private key in it")]
    NoKey,
    /// There is more than one key.
    #[error("more than one private key in it")]
    ManyKeys,
    /// The key cannot be used or is that of another certificate.
    #[error("the private key does not belong to the certificate")]
    Key,
    /// A certificate is not X.509, or an extension of it is malformed.
    #[error("a malformed certificate")]
    Certificate,
    /// The certificate's time has not come.
    #[error("the certificate is not valid before {0}")]
    NotYetValid(OffsetDateTime),
    /// The certificate's time is over.
    #[error("the certificate expired at {0}")]
    Expired(OffsetDateTime),
    /// Not exactly one URI among the names of the certificate.
    #[error("the certificate names {0} URIs instead of one")]
    UriNames(usize),
    /// The URI is no SPIFFE id.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
    /// The id is not one of this mesh.
    #[error("{0} is not of this installation")]
    Foreign(SpiffeId),
    /// The id is valid, but another one was expected.
    #[error("{id} answers instead of {expected}")]
    Unexpected {
        /// Who it is.
        id: SpiffeId,
        /// Who it should be.
        expected: SpiffeId,
    },
    /// There is nobody to trust.
    #[error("no certificate to trust in it")]
    NoRoots,
    /// The TLS library refuses the setup.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// Tells operators when the certificate in use expires.
pub(crate) fn expiry(file: &'static str, expires: OffsetDateTime) {
    metrics::describe_gauge!(
        "portolan_certificate_expiry_timestamp_seconds",
        "When the certificate in use expires (Unix time)."
    );
    metrics::gauge!("portolan_certificate_expiry_timestamp_seconds", "file" => file)
        .set(unix_seconds(expires));
}
