//! The certificates of `up --tls`: an authority in the state directory, which signs what every
//! process shows.
//!
//! The services and tools have short-lived ones, replaced at half of their life while everything
//! runs: what Vault and its agents do in a cluster. PostgreSQL, Kafka and Redis get long ones at
//! every start.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use portolan_kernel::{Clock as _, SystemClock};
use portolan_runtime::tls::TlsConfig;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::sleep;

use super::{logs::Logs, services::Service, state::write_private};
use crate::pki::Development;

const TRUST_DOMAIN: &str = "portolan.local";
const NAMESPACE: &str = "local";
const INFRASTRUCTURE_TTL: Duration = Duration::from_hours(90 * 24);
/// How often a process may look for new files at most, and a connection live.
const LONGEST_POLL: Duration = Duration::from_secs(2);
const LONGEST_CONNECTION: Duration = Duration::from_mins(5);

/// The broker, who is also its own super user.
pub(crate) const KAFKA: &str = "kafka";
pub(crate) const POSTGRES: &str = "postgres";
pub(crate) const REDIS: &str = "redis";
/// The app host itself.
pub(crate) const HOST: &str = "host";
/// Who loads the catalogue, who places orders, who compares.
pub(crate) const SEED: &str = "seed";
pub(crate) const LOAD: &str = "load";
pub(crate) const AUDIT: &str = "audit";

/// Where certificates are, for those who use them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    dir: PathBuf,
    /// How long the certificates of services and tools are valid.
    ttl: Duration,
}

impl Places {
    pub(crate) fn new(dir: PathBuf, ttl: Duration) -> Self {
        Self { dir, ttl }
    }

    /// The certificate of a component, its issuer's and its key.
    pub(crate) fn identity(&self, component: &str) -> PathBuf {
        self.dir.join(format!("{component}.pem"))
    }

    /// The authority's certificate.
    pub(crate) fn roots(&self) -> PathBuf {
        self.dir.join("roots.pem")
    }

    /// The component's place in the mesh.
    pub(crate) fn config(&self, component: &str) -> TlsConfig {
        TlsConfig {
            identity: self.identity(component),
            roots: self.roots(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            namespace: NAMESPACE.to_owned(),
            prefix: String::new(),
            poll_ms: u64::try_from(self.poll().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Often enough to see every certificate long before the one before it expires.
    fn poll(&self) -> Duration {
        (self.ttl / 20).clamp(Duration::from_millis(100), LONGEST_POLL)
    }

    /// How long a connection may live, so that it does not outlive its certificates by much.
    pub(crate) fn connection_age(&self) -> Duration {
        (self.ttl / 4).clamp(Duration::from_secs(1), LONGEST_CONNECTION)
    }
}

/// The authority of one state directory.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub places: Places,
    authority: Development,
}

impl Certificates {
    /// Opens or makes the authority, and writes certificates for everybody.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(crate) fn open(places: Places) -> anyhow::Result<Self> {
        let now = SystemClock.now();
        let authority = Development::open(&places.dir.join("ca"), TRUST_DOMAIN, NAMESPACE, now)?;
        let all = Self { places, authority };
        write_private(&all.places.roots(), all.roots().as_bytes())?;
        for component in [POSTGRES, KAFKA, REDIS] {
            let bundle = all.make(component, INFRASTRUCTURE_TTL)?;
            write_private(&all.places.identity(component), bundle.expose_secret().as_bytes())?;
        }
        all.renew()?;
        Ok(all)
    }

    fn roots(&self) -> &str {
        self.authority.roots()
    }

    fn make(&self, component: &str, ttl: Duration) -> anyhow::Result<SecretString> {
        let (name, address) = ("localhost".to_owned(), IpAddr::from(Ipv4Addr::LOCALHOST));
        self.authority
            .make(component, &[name], &[address], ttl, SystemClock.now())
            .with_context(|| format!("no certificate for {component}"))
    }

    /// Replaces the certificates of the services and tools, each in one step.
    fn renew(&self) -> anyhow::Result<()> {
        let services = Service::ALL.into_iter().map(Service::name);
        for component in services.chain([HOST, SEED, LOAD, AUDIT]) {
            let bundle = self.make(component, self.places.ttl)?;
            write_private(&self.places.identity(component), bundle.expose_secret().as_bytes())?;
        }
        Ok(())
    }

    /// Renews the certificates at half of their life, for as long as it is polled.
    pub(crate) async fn keep_current(self, logs: Logs) {
        loop {
            sleep(self.places.ttl / 2).await;
            match self.renew() {
                Ok(()) => logs.host("new certificates"),
                Err(error) => logs.host(&format!("the old certificates stay: {error:#}")),
            }
        }
    }
}

/// Both files of a component, where TLS is on.
pub(crate) fn pair(places: Option<&Places>, component: &str) -> Option<(PathBuf, PathBuf)> {
    places.map(|places| (places.roots(), places.identity(component)))
}

/// A path as TOML and properties files take it.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use portolan_runtime::Tls;

    use super::*;
    use crate::local::random_bytes;

    fn places(ttl: Duration) -> Places {
        let name = format!("portolan-tls-{}", hex::encode(random_bytes::<8>().unwrap()));
        Places::new(std::env::temp_dir().join(name), ttl)
    }

    #[test]
    fn everybody_has_a_certificate_of_the_mesh_and_new_ones_replace_it() {
        let places = places(Duration::from_mins(10));
        let all = Certificates::open(places.clone()).unwrap();
        let tls = Tls::load(&places.config("order")).unwrap();
        assert_eq!(tls.id().to_string(), "spiffe://portolan.local/ns/local/sa/order");
        let first = fs::read(places.identity("order")).unwrap();
        let broker = fs::read(places.identity(KAFKA)).unwrap();
        all.renew().unwrap();
        assert_ne!(fs::read(places.identity("order")).unwrap(), first);
        assert_eq!(fs::read(places.identity(KAFKA)).unwrap(), broker);
        // The authority stays the same from start to start.
        let roots = fs::read(places.roots()).unwrap();
        Certificates::open(places.clone()).unwrap();
        assert_eq!(fs::read(places.roots()).unwrap(), roots);
        fs::remove_dir_all(&places.dir).unwrap();
    }

    #[test]
    fn short_lives_are_looked_after_more_often() {
        let of = |seconds| places(Duration::from_secs(seconds));
        assert_eq!(of(3600).config("order").poll_ms, 2_000);
        assert_eq!(of(20).config("order").poll_ms, 1_000);
        assert_eq!(of(3600).connection_age(), Duration::from_mins(5));
        assert_eq!(of(60).connection_age(), Duration::from_secs(15));
    }
}
