use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, uri::Scheme};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint, Error},
};
use tower::Service;

use crate::{ConfigError, telemetry::TraceContext};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The transport of every generated client: a channel that connects when first used, reconnects
/// by itself, and sends the current trace context with each call. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Client(Channel);

/// A [`Client`] for `http://host:port`. Nothing is connected yet, but a tokio runtime must run.
///
/// # Errors
/// The text is not a URL with a scheme and a host.
pub fn channel(url: &str) -> Result<Client, ConfigError> {
    let endpoint = endpoint(url)?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy();
    Ok(Client(channel))
}

/// Whether [`channel`] would take this URL: for the validation of a configuration.
///
/// # Errors
/// The text is not a URL with a scheme and a host.
pub fn check_url(url: &str) -> Result<(), ConfigError> {
    endpoint(url).map(drop)
}

fn endpoint(url: &str) -> Result<Endpoint, ConfigError> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| ConfigError::Url)?;
    let uri = endpoint.uri();
    let web = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    let hosted = !uri.host().is_none_or(str::is_empty);
    if web && hosted { Ok(endpoint) } else { Err(ConfigError::Url) }
}

/// The request with a deadline that caller and server both keep (`grpc-timeout`).
pub fn deadline<T>(request: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(request);
    request.set_timeout(timeout);
    request
}

impl Service<Request<Body>> for Client {
    type Response = Response<Body>;
    type Error = Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let trace = TraceContext::current();
        if let (false, Ok(value)) = (trace.is_none(), HeaderValue::from_str(trace.as_str())) {
            request.headers_mut().insert("traceparent", value);
        }
        Service::call(&mut self.0, request)
    }
}
