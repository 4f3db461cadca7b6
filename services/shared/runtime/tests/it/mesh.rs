//! What the tests of the mesh share: a small gRPC service, callers with an identity, and clients
//! that break the rules.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Extension, Router, extract::ConnectInfo, response::IntoResponse as _, routing::any};
use http::Request;
use portolan_runtime::{
    Callers, Context, PeerIdentity,
    grpc::{self, Client},
    install_crypto,
};
use portolan_testkit::{PATIENCE, TestMesh, context};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, Status, body::Body, service::Routes};
use tower::ServiceExt as _;

pub(crate) const HELLO: &str = "test.Test/Hello";

/// Answers with the caller's id and address in headers.
pub(crate) fn methods() -> Routes {
    let hello = async |peer: Option<Extension<PeerIdentity>>,
                       ConnectInfo(address): ConnectInfo<SocketAddr>| {
        let peer = peer.map_or_else(String::new, |Extension(PeerIdentity(id))| id.to_string());
        [("peer", peer), ("address", address.to_string()), ("grpc-status", "0".to_owned())]
            .into_response()
    };
    let stream = async || {
        Body::new(axum::body::Body::from_stream(futures::stream::pending::<
            Result<axum::body::Bytes, Status>,
        >()))
    };
    Routes::from(
        Router::new()
            .route("/test.Test/Hello", any(hello))
            .route("/test.Test/Other", any(hello))
            .route("/test.Test/Stream", any(async move || http::Response::new(stream().await))),
    )
}

/// Serves [`methods`] as `inventory`, which `order` may say hello to.
pub(crate) async fn inventory(mesh: &TestMesh) -> Context {
    let ctx = context().with_tls(Some(mesh.load("inventory")));
    serve(&ctx).await;
    ctx
}

pub(crate) async fn serve(ctx: &Context) {
    let callers: Callers = [("order", [HELLO])].into_iter().collect();
    grpc::serve(ctx, methods(), &callers).await.unwrap();
}

pub(crate) fn url(ctx: &Context) -> String {
    format!("https://{}", ctx.local_addr().unwrap())
}

/// A client that is `component` and expects to find inventory there.
pub(crate) fn client(mesh: &TestMesh, component: &str, server: &Context) -> Client {
    let ctx = Context::new("test", None).with_tls(Some(mesh.load(component)));
    grpc::channel(&ctx, &url(server), "inventory").unwrap()
}

/// Calls a method without a message. The headers of the answer, or why there is none.
pub(crate) async fn call(client: &Client, method: &str) -> Result<http::HeaderMap, Code> {
    let request = Request::post(format!("/{method}")).header("content-type", "application/grpc");
    let request = request.body(Body::empty()).unwrap();
    let answer = client.clone().oneshot(request).await.map_err(|status| status.code())?;
    let headers = answer.headers().clone();
    match Status::from_header_map(&headers) {
        Some(status) if status.code() != Code::Ok => Err(status.code()),
        Some(_) | None => Ok(headers),
    }
}

/// A TLS client of no mesh: it trusts the mesh's authority and shows what it is given.
pub(crate) fn stranger(mesh: &TestMesh, identity: Option<&str>) -> ClientConfig {
    install_crypto();
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(mesh.ca().roots().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().unwrap();
    let builder = ClientConfig::builder().with_webpki_verifier(verifier);
    match identity {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap);
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain.collect(), key).unwrap()
        }
    }
}

/// What a connection came to.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) kind: HandshakeKind,
    pub(crate) tickets: u32,
    pub(crate) certificate: CertificateDer<'static>,
}

/// Connects and waits for the first word of the server, since a server of TLS 1.3 refuses a client
/// only after the client is done.
pub(crate) async fn meet(server: SocketAddr, config: &ClientConfig) -> Result<Met, String> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(server).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let connected = timeout(PATIENCE, connector.connect(name, socket)).await.unwrap();
    let mut stream = connected.map_err(|error| error.to_string())?;
    greeted(&mut stream).await?;
    let connection = stream.get_ref().1;
    Ok(Met {
        kind: connection.handshake_kind().unwrap(),
        tickets: connection.tls13_tickets_received(),
        certificate: connection.peer_certificates().unwrap()[0].clone().into_owned(),
    })
}

/// An HTTP/2 server begins with its settings, once the client has said what it speaks.
async fn greeted(stream: &mut TlsStream<TcpStream>) -> Result<(), String> {
    // Errors of writing are those of reading.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let _ = stream.flush().await;
    let mut first = [0; 9];
    let read = timeout(PATIENCE, stream.read_exact(&mut first)).await.unwrap();
    read.map(drop).map_err(|error| error.to_string())
}

/// A client that would resume, if it were let.
pub(crate) fn resuming(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

/// The way to a server that lets everything through to it, but nothing back until it is opened.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    answers: watch::Receiver<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    pub(crate) async fn before(ctx: &Context, server: &Context) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, server) = (listener.local_addr().unwrap(), server.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let (answered, answers) = watch::channel(0);
        let (open, opened) = watch::channel(false);
        let (counter, tasks) = (Arc::clone(&connections), ctx.tasks.clone());
        ctx.tasks.spawn_request(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let passed = pass(client, server, answered.clone(), opened.clone());
                tasks.spawn_request(async move { drop(passed.await) });
            }
        });
        Self { address, connections, answers, open }
    }

    /// How many have connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until the server has answered something.
    pub(crate) async fn answered(&self) {
        let mut answers = self.answers.clone();
        timeout(PATIENCE, answers.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// A client that is order and expects to find inventory behind it.
    pub(crate) fn client(&self, mesh: &TestMesh) -> Client {
        let ctx = Context::new("test", None).with_tls(Some(mesh.load("order")));
        grpc::channel(&ctx, &format!("https://{}", self.address), "inventory").unwrap()
    }
}

async fn pass(
    client: TcpStream,
    server: SocketAddr,
    answered: watch::Sender<usize>,
    mut opened: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let (mut asking, mut asked) = client.into_split();
    let (mut answering, mut answer) = TcpStream::connect(server).await?.into_split();
    let back = async {
        let mut first = [0; 1024];
        let length = answering.read(&mut first).await?;
        answered.send_modify(|count| *count += 1);
        let _ = opened.wait_for(|open| *open).await;
        asked.write_all(&first[..length]).await?;
        tokio::io::copy(&mut answering, &mut asked).await?;
        asked.shutdown().await
    };
    let there = async {
        tokio::io::copy(&mut asking, &mut answer).await?;
        answer.shutdown().await
    };
    tokio::try_join!(there, back).map(drop)
}
