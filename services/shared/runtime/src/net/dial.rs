use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Uri, uri::Scheme};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{ALPN_HTTP_2, HANDSHAKE_TIMEOUT, Stream};
use crate::{ConfigError, Tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where to find the component.
#[derive(Clone, Debug)]
enum Host {
    Name(String, u16),
    Address(SocketAddr),
    #[cfg(test)]
    Known(Arc<std::sync::Mutex<Vec<SocketAddr>>>),
}

/// Makes connections for HTTP/2 to one component: plain for `http://`, mutual TLS for `https://`.
#[derive(Clone)]
pub(crate) struct Dialer {
    host: Host,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    /// # Errors
    /// The URL names no host that could be in a certificate, or asks for TLS where this process
    /// has no identity.
    pub(crate) fn new(url: &Uri, tls: Option<&Tls>, component: &str) -> Result<Self, ConfigError> {
        let host = url.host().ok_or(ConfigError::Url)?;
        // An IPv6 address is in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = url.scheme() == Some(&Scheme::HTTPS);
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure {
            let tls = tls.ok_or(ConfigError::NoTls)?;
            let name = ServerName::try_from(host.clone()).map_err(|_| ConfigError::Url)?;
            Some((connector(&tls.client_config(component)), name))
        } else {
            None
        };
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => Host::Address((ip, port).into()),
            Err(_) => Host::Name(host, port),
        };
        Ok(Self { host, tls })
    }

    /// Without TLS to addresses that no name leads to.
    #[cfg(test)]
    pub(crate) fn to(addresses: Arc<std::sync::Mutex<Vec<SocketAddr>>>) -> Self {
        Self { host: Host::Known(addresses), tls: None }
    }

    /// The addresses behind the name: those of all instances, if the name has no address itself.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Name(name, port) => {
                Ok(tokio::net::lookup_host((name.as_str(), *port)).await?.collect())
            }
            Host::Address(address) => Ok(vec![*address]),
            #[cfg(test)]
            Host::Known(addresses) => {
                let addresses = addresses.lock().map_err(|_| io::ErrorKind::Other)?;
                Ok(addresses.clone())
            }
        }
    }

    /// Connects to one of the addresses.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Stream> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let handshake = connector.connect(name.clone(), stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await??;
        Ok(Stream::Tls(Box::new(stream.into())))
    }

    /// Connects to the first address that answers.
    pub(crate) async fn connect_any(&self) -> io::Result<Stream> {
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for address in self.resolve().await? {
            outcome = self.connect(address).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

fn connector(config: &ClientConfig) -> TlsConnector {
    let mut config = config.clone();
    config.alpn_protocols = vec![ALPN_HTTP_2.to_vec()];
    TlsConnector::from(Arc::new(config))
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tls = self.tls.is_some();
        f.debug_struct("Dialer").field("host", &self.host).field("tls", &tls).finish()
    }
}
