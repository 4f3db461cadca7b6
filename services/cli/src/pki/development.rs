use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;

use super::{
    authority::{Authority, LeafRequest},
    error::PkiError,
    spiffe_id,
};

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const NAME: &str = "Portolan development root";

/// An authority in a directory, for the shop on one machine.
#[derive(Debug)]
pub struct Development {
    authority: Authority,
    trust_domain: String,
    namespace: String,
}

impl Development {
    /// Opens the directory, making it (for its owner only) and a new root if there is none. For one
    /// process at a time.
    ///
    /// # Errors
    /// The files can be neither read nor made, or hold something else.
    pub fn open(
        directory: &Path,
        trust_domain: &str,
        namespace: &str,
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        let authority = if certificate.exists() {
            Authority::from_pem(&read(&certificate)?, &read(&key)?)?
        } else {
            let authority = Authority::generate(NAME, now)?;
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(file(directory))?;
            // The certificate comes last: where it is, the key is.
            write(&key, authority.key_pem().expose_secret())?;
            write(&certificate, authority.pem())?;
            authority
        };
        let (trust_domain, namespace) = (trust_domain.to_owned(), namespace.to_owned());
        Ok(Self { authority, trust_domain, namespace })
    }

    /// The trust root, PEM.
    pub fn roots(&self) -> &str {
        self.authority.pem()
    }

    /// What a component proves itself with: its certificate, the authority's and its key in one
    /// PEM text, valid for `ttl` from now.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn make(
        &self,
        component: &str,
        dns: &[String],
        ips: &[IpAddr],
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<SecretString, PkiError> {
        let request = LeafRequest {
            name: component.to_owned(),
            dns: dns.to_vec(),
            ips: ips.to_vec(),
            uri: spiffe_id(&self.trust_domain, &self.namespace, component),
            ttl,
        };
        let leaf = self.authority.issue(&request, now)?;
        let bundle = [&leaf.certificate, self.roots(), leaf.key.expose_secret()].concat();
        Ok(SecretString::from(bundle))
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    |source| PkiError::File { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(file(path))
}

/// Whole or not at all, for the owner only.
fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let temporary = path.with_extension("new");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut target| target.write_all(text.as_bytes()).and_then(|()| target.sync_all()));
    written.and_then(|()| fs::rename(&temporary, path)).map_err(file(path))
}
