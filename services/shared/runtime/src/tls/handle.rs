use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, client::Resumption, crypto::CryptoProvider,
    version::TLS13,
};
use time::OffsetDateTime;

use super::{
    Domain, SpiffeId, TlsConfig, TlsError,
    material::{Identity, Roots},
    verify::{CalleeVerifier, CallerVerifier, Shown},
};
use crate::{Tasks, files::Watched};

const IDENTITY: &str = "tls.identity";
const ROOTS: &str = "tls.roots";

/// This process's place in the mesh: its identity and whom it trusts, both of which may change
/// while it runs. Clones share them.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    domain: Domain,
    id: SpiffeId,
    poll: Duration,
    identity: Watched<Identity>,
    roots: Watched<Roots>,
    server: Arc<ServerConfig>,
    /// Without the verifier, which is made for each callee.
    client: ClientConfig,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// One of them is missing or of no use: see [`TlsError`].
    pub fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let domain = config.domain();
        let identity = identity(config, Arc::clone(&provider))?;
        let roots = Watched::load(ROOTS, &config.roots, {
            let provider = Arc::clone(&provider);
            move |pem: &[u8]| Roots::parse(pem, &provider)
        })?;
        let inner = Inner {
            id: identity.current().id.clone(),
            poll: config.poll(),
            server: Arc::new(server(&domain, &identity, &roots, &provider)?),
            client: client(&identity, &provider)?,
            domain,
            identity,
            roots,
            provider,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts the tasks that read the files again when they change.
    pub fn keep_current(&self, tasks: &Tasks) {
        self.inner.identity.keep_current(tasks, self.inner.poll);
        self.inner.roots.keep_current(tasks, self.inner.poll);
    }

    /// Reads both files now. For tests, which do not wait for the time to come.
    pub async fn reload(&self) {
        self.inner.identity.reload().await;
        self.inner.roots.reload().await;
    }

    /// For a server: every caller must show a certificate of the mesh.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.inner.server)
    }

    /// For calls to one component, which must have its id and the name that was dialled.
    pub fn client_config(&self, component: &str) -> Arc<ClientConfig> {
        let verifier = CalleeVerifier {
            roots: self.inner.roots.clone(),
            expected: self.inner.domain.id(component),
            algorithms: self.inner.provider.signature_verification_algorithms,
        };
        let mut config = self.inner.client.clone();
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }

    /// Who this process is.
    pub fn id(&self) -> SpiffeId {
        self.inner.id.clone()
    }

    /// When the current certificate expires.
    pub fn expires(&self) -> OffsetDateTime {
        self.inner.identity.current().expires
    }

    /// The installation that this process belongs to.
    pub fn domain(&self) -> &Domain {
        &self.inner.domain
    }
}

/// Watches the identity. A process is one component for its whole life, so a certificate of
/// another one is as bad as a broken one.
fn identity(
    config: &TlsConfig,
    provider: Arc<CryptoProvider>,
) -> Result<Watched<Identity>, TlsError> {
    let (domain, first) = (config.domain(), OnceLock::new());
    let parse = move |pem: &[u8]| {
        let identity = Identity::parse(pem, &domain, &provider)?;
        let expected = first.get_or_init(|| identity.id.clone());
        if *expected != identity.id {
            let expected = expected.clone();
            return Err(TlsError::Unexpected { id: identity.id, expected });
        }
        super::expiry(IDENTITY, identity.expires);
        Ok(identity)
    };
    Ok(Watched::load(IDENTITY, &config.identity, parse)?)
}

fn server(
    domain: &Domain,
    identity: &Watched<Identity>,
    roots: &Watched<Roots>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let verifier = CallerVerifier {
        roots: roots.clone(),
        trust_domain: domain.trust_domain.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(setup)?;
    let mut config = builder
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Shown(identity.clone())));
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    identity: &Watched<Identity>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(setup)?;
    // Trusts nobody until it gets the verifier for its callee.
    let mut config = builder
        .with_root_certificates(RootCertStore::empty())
        .with_client_cert_resolver(Arc::new(Shown(identity.clone())));
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn setup(error: rustls::Error) -> TlsError {
    TlsError::Setup(error.to_string())
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("id", &self.inner.id).finish_non_exhaustive()
    }
}
