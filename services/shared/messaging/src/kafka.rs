//! Access to Kafka: the settings of our clients, and the certificates that they show and trust.
//!
//! librdkafka reads certificates once, when a client is made. So every client of ours holds a
//! [`Kafka`] of its own, asks it at a moment of its choice whether there is something new, and then
//! makes another client. A broker looks at a certificate only when a connection is made: an old
//! client goes on with the connections that it has, so there is no hurry.

use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use portolan_runtime::{
    Context,
    files::{FileError, POLL, Watched},
    tls::{TlsError, check_identity, check_roots},
};
use rdkafka::{ClientConfig, error::KafkaResult};
use tokio::sync::watch;

use crate::KafkaConfig;

const IDENTITY: &str = "kafka.tls_identity";
const ROOTS: &str = "kafka.tls_roots";

/// The only cipher suite that we offer for TLS 1.2 and older: none, since without a pre-shared key
/// OpenSSL never proposes it. librdkafka has no setting for the version; the suites of TLS 1.3 are
/// a list of their own, which this does not touch.
const NO_OLD_CIPHER: &str = "PSK-AES256-GCM-SHA384";

/// How this process reaches Kafka. Each clone remembers by itself which certificates it has seen.
#[derive(Clone, Debug)]
pub struct Kafka {
    config: Arc<KafkaConfig>,
    tls: Option<Tls>,
    answers: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
struct Tls {
    identity: watch::Receiver<Arc<Pem>>,
    roots: watch::Receiver<Arc<Pem>>,
}

/// The text of a PEM file, which may hold a key.
struct Pem(String);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

impl Kafka {
    /// Reads the certificates, if any are configured, and keeps them current.
    ///
    /// # Errors
    /// A file is missing or of no use.
    pub fn load(ctx: &Context, config: &KafkaConfig) -> Result<Self, FileError> {
        let tls = match (&config.tls_identity, &config.tls_roots) {
            (Some(identity), Some(roots)) => Some(Tls {
                identity: watched(ctx, IDENTITY, identity, identity_pem)?,
                roots: watched(ctx, ROOTS, roots, roots_pem)?,
            }),
            _ => None,
        };
        let answers = Arc::new(AtomicBool::new(true));
        Ok(Self { config: Arc::new(config.clone()), tls, answers })
    }

    pub(crate) fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// Whether a broker answered when it was last asked ([`crate::broker`]), whatever other clients
    /// make of it. The same for all clones.
    pub(crate) fn answers(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.answers)
    }

    /// Replaces `client` by one that `make` makes, if there are certificates that this clone has
    /// not seen. If librdkafka refuses them, the old client stays until there are others.
    pub(crate) fn renew<C>(
        &mut self,
        name: &'static str,
        client: &mut C,
        make: impl FnOnce(&mut Self) -> KafkaResult<C>,
    ) -> Option<C> {
        if !self.has_news() {
            return None;
        }
        self.replace(name, "there are new certificates", client, make)
    }

    /// Replaces `client` by one that `make` makes, for this reason.
    pub(crate) fn replace<C>(
        &mut self,
        name: &'static str,
        why: &'static str,
        client: &mut C,
        make: impl FnOnce(&mut Self) -> KafkaResult<C>,
    ) -> Option<C> {
        let outcome = make(self);
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        metrics::counter!("portolan_kafka_renewals_total", "client" => name, "result" => result)
            .increment(1);
        match outcome {
            Ok(new) => {
                tracing::info!(client = name, why, "a new Kafka client");
                Some(std::mem::replace(client, new))
            }
            Err(error) => {
                tracing::error!(client = name, why, %error, "no new Kafka client, the old one stays");
                None
            }
        }
    }

    fn has_news(&self) -> bool {
        // An error means that nobody reads the files any more: the process is stopping.
        let changed = |file: &watch::Receiver<Arc<Pem>>| file.has_changed().unwrap_or(false);
        self.tls.as_ref().is_some_and(|tls| changed(&tls.identity) || changed(&tls.roots))
    }

    /// Settings of the relay's producer, with the current certificates.
    pub(crate) fn producer(&mut self) -> ClientConfig {
        let mut config = self.client();
        self.config.set_producer(&mut config);
        config
    }

    /// Settings of a member of `group`, with the current certificates.
    pub(crate) fn consumer(&mut self, group: &str) -> ClientConfig {
        let mut config = self.client();
        self.config.set_consumer(&mut config, group);
        config
    }

    /// What every client has in common.
    pub(crate) fn client(&mut self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.config.brokers)
            // Or a client that has lost every broker forgets them all and begins with the bootstrap
            // servers, which librdkafka 2.12 may never come to the end of: it then has no broker and
            // looks for none. Names are resolved for every connection in any case.
            .set("metadata.recovery.strategy", "none")
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // Where a pod was, nobody answers: not half a minute long, which is the default.
            .set("socket.connection.setup.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true")
            .set("client.id", "portolan");
        if let Some(tls) = &mut self.tls {
            tls.set(&mut config);
        }
        config
    }
}

impl Tls {
    /// The content and not the files: what was checked is what is used, and certificate and key
    /// are of one generation.
    fn set(&mut self, config: &mut ClientConfig) {
        let identity = Arc::clone(&self.identity.borrow_and_update());
        let roots = Arc::clone(&self.roots.borrow_and_update());
        config
            .set("security.protocol", "ssl")
            .set("ssl.certificate.pem", &identity.0)
            .set("ssl.key.pem", &identity.0)
            .set("ssl.ca.pem", &roots.0)
            .set("ssl.endpoint.identification.algorithm", "https")
            .set("ssl.cipher.suites", NO_OLD_CIPHER);
    }
}

fn watched(
    ctx: &Context,
    key: &'static str,
    path: &Path,
    parse: fn(&[u8]) -> Result<Pem, TlsError>,
) -> Result<watch::Receiver<Arc<Pem>>, FileError> {
    let file = Watched::load(key, path, parse)?;
    file.keep_current(&ctx.tasks, POLL);
    Ok(file.subscribe())
}

fn identity_pem(content: &[u8]) -> Result<Pem, TlsError> {
    let expires = check_identity(content)?;
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!("portolan_certificate_expiry_timestamp_seconds", "file" => IDENTITY)
        .set(expires.unix_timestamp() as f64);
    text(content)
}

fn roots_pem(content: &[u8]) -> Result<Pem, TlsError> {
    check_roots(content)?;
    text(content)
}

fn text(content: &[u8]) -> Result<Pem, TlsError> {
    String::from_utf8(content.to_vec()).map(Pem).map_err(|_| TlsError::Pem)
}

#[cfg(test)]
mod tests;
