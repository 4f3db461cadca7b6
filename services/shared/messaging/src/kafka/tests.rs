//! The TLS of librdkafka with our settings, against a server that is no Kafka.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use portolan_kernel::IdGen as _;
use portolan_runtime::Context;
use portolan_testkit::{SeqIds, TestCa, context, eventually};
use rdkafka::producer::{BaseProducer, Producer as _};
use rustls::{
    AlertDescription, RootCertStore, ServerConfig, SupportedProtocolVersion,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::Kafka;
use crate::KafkaConfig;

/// One question: the connection is made meanwhile, and outlives it.
const ASK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// What an agent writes.
struct Files(PathBuf);

impl Files {
    fn new(roots: &str, identity: &str) -> Self {
        let name = format!("portolan-kafka-tls-{}", SeqIds::new().next().simple());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let files = Self(directory);
        files.write(roots, identity);
        files
    }

    fn of(ca: &TestCa) -> Self {
        Self::new(&ca.roots(), &identity(ca))
    }

    fn write(&self, roots: &str, identity: &str) {
        fs::write(self.0.join("roots.pem"), roots).unwrap();
        fs::write(self.0.join("tls.pem"), identity).unwrap();
    }

    fn load(&self, ctx: &Context, brokers: SocketAddr) -> Kafka {
        let config = KafkaConfig {
            tls_roots: Some(self.0.join("roots.pem")),
            tls_identity: Some(self.0.join("tls.pem")),
            ..KafkaConfig::new(brokers.to_string())
        };
        Kafka::load(ctx, &config).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn identity(ca: &TestCa) -> String {
    ca.client("order", Duration::from_hours(1))
}

fn server(ca: &TestCa, host: &str, version: &'static SupportedProtocolVersion) -> TlsAcceptor {
    portolan_runtime::install_crypto();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.roots().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(roots.into()).build().unwrap();
    let pem = ca.server("kafka", &[host]);
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_protocol_versions(&[version])
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What the server sees of the first handshake of a new client.
async fn handshake(
    kafka: &mut Kafka,
    listener: &TcpListener,
    acceptor: TlsAcceptor,
) -> io::Result<TlsStream<TcpStream>> {
    let client: BaseProducer = kafka.client().create().unwrap();
    let stop = CancellationToken::new();
    let until = stop.clone();
    let asking = tokio::task::spawn_blocking(move || {
        while !until.is_cancelled() {
            let _ = client.client().fetch_metadata(None, ASK);
        }
    });
    let (stream, _) = listener.accept().await.unwrap();
    let accepted = acceptor.accept(stream).await;
    stop.cancel();
    asking.await.unwrap();
    accepted
}

/// The same with a process and a listener of its own.
async fn first_handshake(files: &Files, server: TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    let (ctx, (listener, address)) = (context(), listener().await);
    handshake(&mut files.load(&ctx, address), &listener, server).await
}

fn alert(accepted: io::Result<TlsStream<TcpStream>>) -> AlertDescription {
    match accepted.unwrap_err().get_ref().unwrap().downcast_ref::<rustls::Error>() {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_shows_its_certificate_with_the_issuer() {
    let ca = TestCa::new();
    let accepted = first_handshake(&Files::of(&ca), server(&ca, "127.0.0.1", &TLS13)).await;
    assert_eq!(accepted.unwrap().get_ref().1.peer_certificates().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_than_tls_13_is_spoken() {
    let ca = TestCa::new();
    let accepted = first_handshake(&Files::of(&ca), server(&ca, "127.0.0.1", &TLS12)).await;
    let error = accepted.unwrap_err();
    let refusal = error.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap();
    let common = rustls::PeerIncompatible::NoCipherSuitesInCommon;
    assert_eq!(*refusal, rustls::Error::PeerIncompatible(common));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_another_name_or_another_root_is_refused() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let named = first_handshake(&Files::of(&ca), server(&ca, "localhost", &TLS13)).await;
    assert_eq!(alert(named), AlertDescription::BadCertificate);
    let distrusting = Files::new(&other.roots(), &identity(&ca));
    let refused = first_handshake(&distrusting, server(&ca, "127.0.0.1", &TLS13)).await;
    // Both authorities have the same name: the signature is wrong.
    assert_eq!(alert(refused), AlertDescription::DecryptError);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_client_shows_the_new_certificate_and_trusts_the_new_root() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let (ctx, (listener, address)) = (context(), listener().await);
    let files = Files::of(&old);
    let mut kafka = files.load(&ctx, address);
    handshake(&mut kafka, &listener, server(&old, "127.0.0.1", &TLS13)).await.unwrap();
    assert!(!kafka.has_news());
    let (roots, identity) = (new.roots(), identity(&new));
    files.write(&roots, &identity);
    eventually(PATIENCE, "both files are read again", async || {
        let tls = kafka.tls.as_ref()?;
        let current = tls.roots.borrow().0 == roots && tls.identity.borrow().0 == identity;
        current.then_some(())
    })
    .await;
    assert!(kafka.has_news());
    handshake(&mut kafka, &listener, server(&new, "127.0.0.1", &TLS13)).await.unwrap();
    assert!(!kafka.has_news());
}
