//! Connections: accepted on the service port, dialled to other components, with or without TLS.

mod dial;
mod limit;
mod serve;
mod stream;
mod throttle;

use std::time::Duration;

pub(crate) use dial::Dialer;
pub(crate) use serve::{Port, Protocols, serve};
pub(crate) use stream::Stream;
use throttle::Throttle;

/// How long a TLS handshake may take, in either direction.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The names of the protocols in a TLS handshake (RFC 7301).
const ALPN_HTTP_2: &[u8] = b"h2";
const ALPN_HTTP_1: &[u8] = b"http/1.1";
