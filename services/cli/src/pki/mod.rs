//! Certificates: the root of a cluster's trust and what it signs.
//!
//! One root (an EC P-256 key, ten years) signs the certificates of the infrastructure directly and
//! an intermediate whose key is in Vault. Services never see the root's key. The same code makes
//! the certificates of the local shop ([`Development`]).
//!
//! A certificate says who its holder is in two ways: the common name, which Kafka makes a principal
//! of, and one URI, a [SPIFFE id](spiffe_id), which our own services go by.

mod authority;
mod certificate;
mod development;
mod error;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Leaf, LeafRequest};
pub use certificate::Certificate;
pub use development::Development;
pub use error::PkiError;

/// The identity of a workload: its service account in its namespace, in the form of the SPIFFE
/// standard ("SPIFFE-ID", section 2).
pub fn spiffe_id(trust_domain: &str, namespace: &str, service_account: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
}
