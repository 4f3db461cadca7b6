use std::{io, path::PathBuf};

/// Why there is no certificate. Nothing here repeats a key.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A text is not a certificate in PEM form.
    #[error("{what} is not a certificate in PEM form")]
    Certificate {
        /// Whose text.
        what: &'static str,
    },
    /// A text is not a private key in PEM form, or of a kind that cannot sign.
    #[error("the authority's key is not a private key in PEM form")]
    Key,
    /// The certificate says that it may not sign others.
    #[error("the authority's certificate is not one of an authority")]
    NoAuthority,
    /// Key and certificate are of different authorities.
    #[error("the authority's key does not belong to its certificate")]
    Mismatch,
    /// The request is malformed, or not signed with the key that it is about.
    #[error("the certificate signing request cannot be accepted")]
    Request,
    /// A name that no certificate can carry.
    #[error("{name:?} cannot be a name in a certificate")]
    Name {
        /// The name.
        name: String,
    },
    /// The certificate cannot be made or signed.
    #[error("the certificate cannot be made")]
    Make(#[source] rcgen::Error),
    /// The authority has no time left to give.
    #[error("the authority has expired")]
    Expired,
    /// A file of the development authority.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}
