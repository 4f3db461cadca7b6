use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri, uri::Scheme};
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::Service;

use super::{balance::Balance, server::grpc_timeout};
use crate::{ConfigError, Context, deadline::time_left, net::Dialer, telemetry::TraceContext};

/// The transport of every generated client. It connects when first used, to each instance of the
/// service that its name leads to, spreads the calls over them, and sends the current trace context
/// with each call. A call that a closing connection has not taken goes to another one. Cloning is
/// cheap.
#[derive(Clone, Debug)]
pub struct Client(Arc<Balance>);

/// A [`Client`] for `http://host:port`, or for `https://host:port` with the identity of the
/// context, where only `component` may answer. Nothing is connected yet.
///
/// # Errors
/// The text is not a URL with a scheme and a host, or it asks for an identity that is not there.
pub fn channel(ctx: &Context, url: &str, component: &str) -> Result<Client, ConfigError> {
    let url = parse_url(url)?;
    let dialer = Dialer::new(&url, ctx.tls.as_ref(), component)?;
    Ok(Client(Arc::new(Balance::new(url, dialer))))
}

/// Whether [`channel`] would take this URL: for the validation of a configuration.
///
/// # Errors
/// The text is not a URL with a scheme and a host.
pub fn check_url(url: &str) -> Result<(), ConfigError> {
    parse_url(url).map(drop)
}

pub(crate) fn parse_url(url: &str) -> Result<Uri, ConfigError> {
    let url: Uri = url.parse().map_err(|_| ConfigError::Url)?;
    let web = url.scheme() == Some(&Scheme::HTTP) || url.scheme() == Some(&Scheme::HTTPS);
    let hosted = !url.host().is_none_or(str::is_empty);
    if web && hosted { Ok(url) } else { Err(ConfigError::Url) }
}

/// The request with a deadline that caller and server both keep (`grpc-timeout`): what is left of
/// the present request's own, if that is less than `timeout`.
pub fn deadline<T>(request: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(request);
    request.set_timeout(time_left().map_or(timeout, |left| left.min(timeout)));
    request
}

impl Service<Request<Body>> for Client {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let trace = TraceContext::current();
        if let (false, Ok(value)) = (trace.is_none(), HeaderValue::from_str(trace.as_str())) {
            request.headers_mut().insert("traceparent", value);
        }
        let balance = Arc::clone(&self.0);
        Box::pin(async move {
            let limit = grpc_timeout(request.headers());
            let answer = balance.send(request);
            let Some(limit) = limit else { return answer.await };
            let late = |_| Err(Status::deadline_exceeded("no answer in time"));
            timeout(limit, answer).await.unwrap_or_else(late)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::within;

    #[tokio::test(start_paused = true)]
    async fn a_call_gets_no_more_time_than_the_request_that_makes_it_has_left() {
        let told = |limit| grpc_timeout(&deadline((), limit).into_parts().0.into_headers());
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(9));
        let all = within(5 * short, async {
            let before = [told(short), told(long)];
            tokio::time::sleep(2 * short).await;
            [before, [told(short), told(long)]]
        });
        let expected = [[Some(short), Some(5 * short)], [Some(short), Some(3 * short)]];
        assert_eq!(all.await, Ok(expected));
        assert_eq!(told(long), Some(long), "without a request");
    }
}
