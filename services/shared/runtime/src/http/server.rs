use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use crate::{Context, Tasks};

/// How long a client may take to send the head of a request, or its first byte.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

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

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, soft: CancellationToken) {
    let _ = stream.set_nodelay(true);
    // The protocol is detected from the first bytes, for which hyper would wait for ever.
    let mut first = [0; 1];
    let spoke = tokio::select! {
        () = soft.cancelled() => false,
        peeked = tokio::time::timeout(HEADER_TIMEOUT, stream.peek(&mut first)) => {
            matches!(peeked, Ok(Ok(1)))
        }
    };
    if !spoke {
        return;
    }
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
