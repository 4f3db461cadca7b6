use std::{io::Cursor, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use portolan_kernel::IdGen;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use super::{ALPN_HTTP_1, ALPN_HTTP_2, HANDSHAKE_TIMEOUT, Stream, Throttle, limit::Limit};
use crate::{Context, PeerIdentity, Tasks, Tls};

/// How long a client may take to send the head of a request, or what its protocol is known by.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that is refused may take to notice.
const LINGER: Duration = Duration::from_secs(1);
/// How long connections are accepted after the soft token that had come about before.
const BACKLOG: Duration = Duration::from_millis(50);
/// How long a client that has said nothing yet is listened to after the soft token: what it had
/// sent by then is not lost.
const LAST_WORD: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How large the head of a request may be, in bytes; and it has 100 headers at most with HTTP/1.1.
const MAX_HEAD: u16 = 32 * 1024;
/// Enough for one caller with all its streams; a client waits when it has opened so many.
const MAX_STREAMS: u32 = 1_000;
/// What a client that speaks HTTP/2 begins with (RFC 9113 section 3.4).
const HTTP_2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocols a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// HTTP/2 alone.
    Http2,
}

/// What is served and to whom.
pub(crate) struct Port {
    /// The name of its task.
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    pub(crate) protocols: Protocols,
    /// With it every caller must show a certificate.
    pub(crate) tls: Option<Tls>,
    /// How long a connection may live, give or take a tenth; zero is for ever.
    pub(crate) max_age: Duration,
    /// Anybody may connect, and follow something for long.
    pub(crate) public: bool,
}

/// Serves the context's port until the soft token. Then no connection is accepted and the open
/// ones end with their running requests; streams must watch the token themselves. A connection that
/// has begun by then is served as well, also one that waits to be accepted: its client may have sent
/// a request.
///
/// There are never more connections than the context allows; the others wait to be accepted.
///
/// Requests carry `ConnectInfo<SocketAddr>` and, with TLS, [`PeerIdentity`] as extensions. A
/// connection that is too old takes no new request, and what still runs on it when it is twice as
/// old is cut off. On a public port nothing is cut off, and only connections with HTTP/2 grow old:
/// without requests the others end by themselves, and closing them meets a request on its way.
///
/// # Errors
/// The port is being served already.
pub(crate) fn serve(ctx: &Context, port: Port) -> anyhow::Result<()> {
    let listener = ctx.take_listener()?;
    metrics::describe_counter!(
        "portolan_tls_handshakes_failed_total",
        "TLS handshakes that failed, by our side of them."
    );
    let name = port.name;
    let server = Server {
        acceptor: port.tls.as_ref().map(|tls| acceptor(tls, port.protocols)),
        limit: Limit::new(name, ctx.max_connections),
        refused: Throttle::default(),
        port,
        soft: ctx.tasks.soft(),
        ids: Arc::clone(&ctx.ids),
    };
    ctx.tasks.spawn(name, accept(listener, Arc::new(server), ctx.tasks.clone()));
    Ok(())
}

struct Server {
    port: Port,
    acceptor: Option<TlsAcceptor>,
    limit: Limit,
    /// The log's lines about handshakes that failed.
    refused: Throttle,
    soft: CancellationToken,
    ids: Arc<dyn IdGen>,
}

fn acceptor(tls: &Tls, protocols: Protocols) -> TlsAcceptor {
    let mut config = tls.server_config().as_ref().clone();
    config.alpn_protocols = vec![ALPN_HTTP_2.to_vec()];
    if protocols == Protocols::Http {
        config.alpn_protocols.push(ALPN_HTTP_1.to_vec());
    }
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, server: Arc<Server>, tasks: Tasks) -> anyhow::Result<()> {
    let accepting = accept_all(&listener, &server, &tasks);
    tokio::pin!(accepting);
    if let Some(failed) = server.soft.run_until_cancelled(accepting.as_mut()).await {
        return failed;
    }
    // What the system has accepted for us by now would be reset with all that it has sent.
    timeout(BACKLOG, accepting).await.unwrap_or(Ok(()))
}

/// Everything that a client can delay happens in the task of its connection.
async fn accept_all(
    listener: &TcpListener,
    server: &Arc<Server>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    loop {
        let place = server.limit.place().await?;
        match listener.accept().await {
            Ok((stream, address)) => {
                let (taken, server) = (server.limit.taken(place), Arc::clone(server));
                tasks.spawn_request(async move {
                    server.connection(stream, address).await;
                    drop(taken);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait until some are free again.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Server {
    async fn connection(&self, stream: TcpStream, address: SocketAddr) {
        let Some((mut stream, peer)) = self.secure(stream, address).await else { return };
        let said = tokio::select! {
            biased;
            said = timeout(HEADER_TIMEOUT, opening(&mut stream)) => said.ok().flatten(),
            () = self.closed() => None,
        };
        let Some(said) = said else { return };
        let ages = !self.port.public || said == HTTP_2_PREFACE;
        let max_age = if ages { self.port.max_age } else { Duration::ZERO };
        let (rest, answers) = tokio::io::split(stream);
        let stream = tokio::io::join(Cursor::new(said).chain(rest), answers);
        self.requests(stream, address, peer, max_age).await;
    }

    /// Waits until the soft token, and the time for a last word after it.
    async fn closed(&self) {
        self.soft.cancelled().await;
        tokio::time::sleep(LAST_WORD).await;
    }

    /// The handshake, if this port has one. A client that fails it is told by TLS, and no other
    /// client notices.
    async fn secure(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(Stream, Option<PeerIdentity>)> {
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = &self.acceptor else { return Some((Stream::Plain(stream), None)) };
        let handshake = acceptor.accept(stream).into_fallible();
        let (failed, stream) = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => match crate::tls::peer(stream.get_ref().1) {
                Ok(peer) => return Some((Stream::Tls(Box::new(stream.into())), Some(peer))),
                Err(error) => (crate::one_line(&error), None),
            },
            Ok(Err((error, stream))) => (crate::one_line(&error), Some(stream)),
            Err(_) => ("not done in time".to_owned(), None),
        };
        metrics::counter!("portolan_tls_handshakes_failed_total", "side" => "server").increment(1);
        if let Some(left_out) = self.refused.admit() {
            tracing::warn!(peer = %address, error = failed, left_out, "TLS handshake failed");
        }
        if let Some(stream) = stream {
            let _ = timeout(LINGER, part(stream)).await;
        }
        None
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
        peer: Option<PeerIdentity>,
        max_age: Duration,
    ) {
        let router = self.port.router.clone();
        let service = TowerToHyperService::new(service_fn(move |request: Request<_>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            router.clone().oneshot(request)
        }));
        let builder = builder(self.port.protocols);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // It is polled before it is told to end, or else it would not even tell the client that.
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = self.soft.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.aged(max_age) => {
                connection.as_mut().graceful_shutdown();
                if self.port.public {
                    connection.await
                } else {
                    timeout(max_age, connection).await.unwrap_or(Ok(()))
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, peer = %address, "connection ended");
        }
    }

    async fn aged(&self, max_age: Duration) {
        if max_age.is_zero() {
            return std::future::pending().await;
        }
        let [.., a, b] = self.ids.next().into_bytes();
        tokio::time::sleep(jittered(max_age, u16::from_be_bytes([a, b]))).await;
    }
}

/// Closes a connection so that the client can read the last word, which is why. What closes with
/// something unread is reset, and a reset overtakes every word.
async fn part(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// From nine to eleven tenths, so that connections made together do not end together.
fn jittered(age: Duration, random: u16) -> Duration {
    age.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u16::MAX))
}

/// What the client says until its protocol is certain, or nothing if it hangs up before. hyper-util
/// would wait for that without a time limit.
async fn opening(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut said = [0; HTTP_2_PREFACE.len()];
    let mut length = 0;
    while length < said.len() && HTTP_2_PREFACE.starts_with(&said[..length]) {
        match stream.read(&mut said[length..]).await {
            Ok(0) | Err(_) => return None,
            Ok(more) => length += more,
        }
    }
    Some(said[..length].to_vec())
}

fn builder(protocols: Protocols) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD.into());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HEADER_TIMEOUT)
        .max_header_list_size(MAX_HEAD.into())
        .max_concurrent_streams(MAX_STREAMS);
    match protocols {
        Protocols::Http => builder,
        Protocols::Http2 => builder.http2_only(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_varies_by_a_tenth_in_both_directions() {
        let age = Duration::from_mins(5);
        assert_eq!(jittered(age, 0), Duration::from_secs(270));
        assert_eq!(jittered(age, u16::MAX), Duration::from_secs(330));
    }
}
