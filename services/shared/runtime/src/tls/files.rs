use std::{path::Path, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, client::Resumption, sign::CertifiedKey};
use tokio::sync::watch;

use super::{
    TlsError,
    material::{certified, root_store},
    verify::Always,
};
use crate::{Tasks, files::Watched};

/// TLS towards a server that is no component of the shop: its certificate and name are verified by
/// the rules of the web, and ours is shown if there is one. Both files are read again when they
/// change; what is new counts from the next connection on. Clones share them.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    roots: Watched<RootCertStore>,
    identity: Option<Watched<CertifiedKey>>,
}

impl ClientFiles {
    /// Reads the files, each given with the configuration key that names it: the certificates that
    /// the server's must come from, and our certificate with its issuer and its PKCS#8 key.
    ///
    /// # Errors
    /// One of them is missing or of no use: see [`TlsError`].
    pub fn load(
        roots: (&'static str, &Path),
        identity: Option<(&'static str, &Path)>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (key, path) = roots;
        let roots = Watched::load(key, path, root_store)?;
        let identity = identity.map(|(key, path)| {
            Watched::load(key, path, move |pem: &[u8]| {
                let (certified, expires) = certified(pem, &provider)?;
                super::expiry(key, expires);
                Ok::<_, TlsError>(certified)
            })
        });
        Ok(Self { roots, identity: identity.transpose()? })
    }

    /// Starts the tasks that read the files again every so often.
    pub fn keep_current(&self, tasks: &Tasks, every: Duration) {
        self.roots.keep_current(tasks, every);
        if let Some(identity) = &self.identity {
            identity.keep_current(tasks, every);
        }
    }

    /// For the next connection.
    ///
    /// # Errors
    /// The TLS library refuses the setup.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        let builder = builder.with_root_certificates(Arc::clone(&self.roots.current()));
        let mut config = match &self.identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(Always(identity.current())))
            }
            None => builder.with_no_client_auth(),
        };
        // A resumed session would outlive a root that is no longer trusted.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Tells of changes from now on.
    pub fn changes(&self) -> Changes {
        let identity = self.identity.as_ref().map(Watched::subscribe);
        Changes { roots: self.roots.subscribe(), identity }
    }
}

/// Waits for new content of [`ClientFiles`].
#[derive(Debug)]
pub struct Changes {
    roots: watch::Receiver<Arc<RootCertStore>>,
    identity: Option<watch::Receiver<Arc<CertifiedKey>>>,
}

impl Changes {
    /// Returns when a file has changed since the last call.
    pub async fn next(&mut self) {
        let Self { roots, identity } = self;
        tokio::select! {
            () = changed(roots) => {}
            () = async {
                match identity {
                    Some(identity) => changed(identity).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

async fn changed<T>(file: &mut watch::Receiver<T>) {
    if file.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
