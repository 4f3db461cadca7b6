use std::{io::Cursor, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use crate::{Context, Tasks};

/// How long a client may take to send the head of a request, or what its protocol is known by.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What a client that speaks HTTP/2 begins with (RFC 9113 section 3.4).
const HTTP_2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves `router` on the context's port: HTTP/1.1 and HTTP/2 without TLS. Handlers can extract
/// `ConnectInfo<SocketAddr>`. After the soft token no connection is accepted and the open ones
/// end with their running request; streams must watch the token themselves.
///
/// # Errors
/// The port is being served already.
pub async fn serve(ctx: &Context, router: Router) -> anyhow::Result<()> {
    let listener = ctx.take_listener()?;
    let tasks = ctx.tasks.clone();
    ctx.tasks.spawn("http", accept(listener, router, tasks));
    std::future::ready(Ok(())).await
}

async fn accept(listener: TcpListener, router: Router, tasks: Tasks) -> anyhow::Result<()> {
    let soft = tasks.soft();
    loop {
        let accepted = tokio::select! {
            () = soft.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tasks.spawn_request(connection(stream, peer, router.clone(), soft.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait until some are free again.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What the client says until its protocol is certain, or nothing if it hangs up before. hyper-util
/// would wait for that without a time limit.
async fn opening(stream: &mut TcpStream) -> Option<Vec<u8>> {
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

async fn connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    soft: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let opening = tokio::select! {
        () = soft.cancelled() => return,
        said = tokio::time::timeout(HEADER_TIMEOUT, opening(&mut stream)) => said.ok().flatten(),
    };
    let Some(opening) = opening else { return };
    let (rest, answers) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(opening).chain(rest), answers);
    let service = TowerToHyperService::new(service_fn(move |request: Request<_>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    }));
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = soft.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, %peer, "connection ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HEADER_TIMEOUT);
    builder
}
