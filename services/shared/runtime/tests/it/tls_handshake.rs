//! Who gets through a handshake, in both directions.

use std::{sync::Arc, time::Duration};

use portolan_runtime::{Context, grpc, metrics};
use portolan_testkit::{TestCa, TestMesh, context};
use rcgen::{CertificateParams, SanType};
use rustls::{HandshakeKind, ServerConfig, version::TLS12};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use crate::mesh::{HELLO, call, client, inventory, meet, resuming, serve, stranger, url};

async fn refusal(mesh: &TestMesh, params: &CertificateParams) -> String {
    let server = inventory(mesh).await;
    let config = stranger(mesh, Some(&mesh.ca().issue(params)));
    meet(server.local_addr().unwrap(), &config).await.unwrap_err()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[tokio::test]
async fn a_member_of_the_mesh_is_let_in() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let config = stranger(&mesh, Some(&mesh.ca().issue(&mesh.params("order"))));
    meet(server.local_addr().unwrap(), &config).await.unwrap();
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    // It has always said something by then, and is told why all the same.
    for _ in 0..50 {
        let config = stranger(&mesh, None);
        let refused = meet(server.local_addr().unwrap(), &config).await.unwrap_err();
        assert!(refused.contains("CertificateRequired"), "{refused}");
    }
}

#[tokio::test]
async fn a_caller_of_another_authority_is_refused() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let foreign = TestCa::new().issue(&mesh.params("order"));
    let config = stranger(&mesh, Some(&foreign));
    let refused = meet(server.local_addr().unwrap(), &config).await.unwrap_err();
    // Both authorities have the same name, so it is the signature that does not fit.
    assert!(refused.contains("DecryptError"), "{refused}");
}

#[tokio::test]
async fn a_caller_whose_certificate_is_over_is_refused() {
    let mesh = TestMesh::new();
    let mut params = mesh.params("order");
    params.not_before = now() - Duration::from_hours(2);
    params.not_after = now() - Duration::from_mins(1);
    let refused = refusal(&mesh, &params).await;
    assert!(refused.contains("CertificateExpired"), "{refused}");
}

#[tokio::test]
async fn a_caller_of_another_trust_domain_is_refused() {
    let mesh = TestMesh::new();
    let mut params = mesh.params("order");
    params.subject_alt_names = vec![uri("spiffe://portolan.evil/ns/shop/sa/order")];
    let refused = refusal(&mesh, &params).await;
    assert!(refused.contains("CertificateUnknown"), "{refused}");
}

#[tokio::test]
async fn a_caller_with_two_ids_is_refused() {
    let mesh = TestMesh::new();
    let mut params = mesh.params("order");
    params.subject_alt_names.push(uri("spiffe://portolan.test/ns/shop/sa/payment"));
    let refused = refusal(&mesh, &params).await;
    assert!(refused.contains("CertificateUnknown"), "{refused}");
}

#[tokio::test]
async fn a_caller_with_a_name_but_no_id_is_refused() {
    let mesh = TestMesh::new();
    let mut params = mesh.params("order");
    params.subject_alt_names.retain(|name| !matches!(name, SanType::URI(_)));
    let refused = refusal(&mesh, &params).await;
    assert!(refused.contains("CertificateUnknown"), "{refused}");
}

#[tokio::test]
async fn a_caller_whose_uri_is_no_spiffe_id_is_refused() {
    let mesh = TestMesh::new();
    let mut params = mesh.params("order");
    params.subject_alt_names = vec![uri("https://portolan.test/ns/shop/sa/order")];
    let refused = refusal(&mesh, &params).await;
    assert!(refused.contains("CertificateUnknown"), "{refused}");
}

#[tokio::test]
async fn a_failed_handshake_is_counted_and_hurts_nobody_else() {
    metrics::install("test").unwrap();
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let address = server.local_addr().unwrap();
    meet(address, &stranger(&mesh, None)).await.unwrap_err();
    // One that never says anything must not be waited for either.
    let _silent = TcpStream::connect(address).await.unwrap();
    call(&client(&mesh, "order", &server), HELLO).await.unwrap();
    let text = metrics::render();
    assert!(text.contains("portolan_tls_handshakes_failed_total{side=\"server\"}"), "{text}");
}

#[tokio::test]
async fn tls_1_2_is_not_spoken_to_callers() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let mut old = stranger(&mesh, Some(&mesh.ca().issue(&mesh.params("order"))));
    meet(server.local_addr().unwrap(), &old).await.unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&TLS12]).unwrap();
    old = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let refused = meet(server.local_addr().unwrap(), &old).await.unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
}

#[tokio::test]
async fn no_session_can_be_resumed_with_us() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let config = stranger(&mesh, Some(&mesh.ca().issue(&mesh.params("order"))));
    let config = resuming(config);
    for _ in 0..3 {
        let met = meet(server.local_addr().unwrap(), &config).await.unwrap();
        assert_eq!((met.kind, met.tickets), (HandshakeKind::Full, 0));
    }
}

/// A server that is no process of ours, with the identity of a component.
async fn foreign_server(
    pem: String,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Served {
    portolan_runtime::install_crypto();
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_protocol_versions(versions).with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Served { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
}

struct Served {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Served {
    /// Takes one connection and says how its handshake went.
    async fn accept(&self) -> Result<HandshakeKind, String> {
        let (socket, _) = self.listener.accept().await.unwrap();
        let stream = self.acceptor.accept(socket).await.map_err(|error| error.to_string())?;
        Ok(stream.get_ref().1.handshake_kind().unwrap())
    }

    /// One of our clients, which expects inventory here.
    fn client(&self, mesh: &TestMesh) -> grpc::Client {
        let ctx = Context::new("test", None).with_tls(Some(mesh.load("order")));
        let url = format!("https://{}", self.listener.local_addr().unwrap());
        grpc::channel(&ctx, &url, "inventory").unwrap()
    }
}

#[tokio::test]
async fn we_resume_no_session_with_others() {
    let mesh = TestMesh::new();
    let tls = mesh.load("order");
    let pem = mesh.ca().issue(&mesh.params("inventory"));
    let server = foreign_server(pem, rustls::ALL_VERSIONS).await;
    for _ in 0..2 {
        let config = tls.client_config("inventory");
        let address = server.listener.local_addr().unwrap();
        let connect = async {
            let socket = TcpStream::connect(address).await.unwrap();
            let name = "localhost".try_into().unwrap();
            tokio_rustls::TlsConnector::from(config).connect(name, socket).await.map(drop)
        };
        let (kind, connected) = tokio::join!(server.accept(), connect);
        connected.unwrap();
        assert_eq!(kind.unwrap(), HandshakeKind::Full);
    }
}

#[tokio::test]
async fn tls_1_2_is_not_spoken_to_servers() {
    let mesh = TestMesh::new();
    let server = foreign_server(mesh.ca().issue(&mesh.params("inventory")), &[&TLS12]).await;
    let client = server.client(&mesh);
    let (handshake, answer) = tokio::join!(server.accept(), call(&client, HELLO));
    assert_eq!(answer.unwrap_err(), Code::Unavailable);
    assert!(handshake.is_err(), "{handshake:?}");
}

async fn answered_as(mesh: &TestMesh, params: CertificateParams) -> Result<HandshakeKind, String> {
    let server = foreign_server(mesh.ca().issue(&params), rustls::ALL_VERSIONS).await;
    let client = server.client(mesh);
    // Nobody answers the call itself, so only the handshake is of interest.
    let calling = async {
        let _ = call(&client, HELLO).await;
        std::future::pending::<()>().await;
    };
    tokio::select! { handshake = server.accept() => handshake, () = calling => unreachable!() }
}

#[tokio::test]
async fn a_server_with_the_name_and_the_id_is_called() {
    let mesh = TestMesh::new();
    answered_as(&mesh, mesh.params("inventory")).await.unwrap();
}

#[tokio::test]
async fn a_server_with_the_name_but_the_id_of_another_component_is_not_called() {
    let mesh = TestMesh::new();
    let refused = answered_as(&mesh, mesh.params("payment")).await.unwrap_err();
    assert!(refused.contains("CertificateUnknown"), "{refused}");
}

#[tokio::test]
async fn a_server_with_the_id_but_another_name_is_not_called() {
    let mesh = TestMesh::new();
    let mut params = mesh.params("inventory");
    params.subject_alt_names.retain(|name| matches!(name, SanType::URI(_)));
    params.subject_alt_names.push(SanType::DnsName("elsewhere".try_into().unwrap()));
    let refused = answered_as(&mesh, params).await.unwrap_err();
    assert!(refused.contains("BadCertificate"), "{refused}");
}

#[tokio::test]
async fn a_server_with_two_ids_is_not_called() {
    let mesh = TestMesh::new();
    let mut params = mesh.params("inventory");
    params.subject_alt_names.push(uri("spiffe://portolan.test/ns/shop/sa/payment"));
    let refused = answered_as(&mesh, params).await.unwrap_err();
    assert!(refused.contains("CertificateUnknown"), "{refused}");
}

#[tokio::test]
async fn a_caller_of_another_component_of_ours_fails_as_unavailable() {
    let mesh = TestMesh::new();
    let payment = context().with_tls(Some(mesh.load("payment")));
    serve(&payment).await;
    let refused = call(&client(&mesh, "order", &payment), HELLO).await.unwrap_err();
    assert_eq!(refused, Code::Unavailable, "{}", url(&payment));
}

#[expect(clippy::disallowed_methods, reason = "certificates are of now")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
