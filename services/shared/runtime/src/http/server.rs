use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;

use crate::{
    Callers, Context,
    callers::Guard,
    net::{self, Port, Protocols},
};

/// Serves `router` on the context's port: HTTP/1.1 and HTTP/2 without TLS. Handlers can extract
/// `ConnectInfo<SocketAddr>`. After the soft token no connection is accepted and the open ones
/// end with their running request; streams must watch the token themselves. Connections with HTTP/2
/// take no new request when they have the age limit of the context.
///
/// # Errors
/// The port is being served already.
pub async fn serve(ctx: &Context, router: Router) -> anyhow::Result<()> {
    net::serve(ctx, port(ctx, router, true))?;
    std::future::ready(Ok(())).await
}

/// [`serve`] within the mesh: if the process has an identity, with mutual TLS and only for those
/// whom `callers` lists; the others get 403. Connections have the age limit of the context.
///
/// # Errors
/// The port is being served already.
pub async fn serve_mesh(ctx: &Context, router: Router, callers: &Callers) -> anyhow::Result<()> {
    let guard = ctx.tls.as_ref().map(|tls| Guard::new(callers, tls.domain(), &[]));
    let router = match guard {
        Some(guard) => router.layer(from_fn_with_state(guard, admit)),
        None => router,
    };
    net::serve(ctx, port(ctx, router, false))?;
    std::future::ready(Ok(())).await
}

fn port(ctx: &Context, router: Router, public: bool) -> Port {
    let tls = if public { None } else { ctx.tls.clone() };
    let max_age = ctx.max_connection_age;
    Port { name: "http", router, protocols: Protocols::Http, tls, max_age, public }
}

async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if guard.admits(request.uri().path(), request.extensions()) {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}
