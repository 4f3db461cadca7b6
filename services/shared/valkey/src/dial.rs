use std::{io, path::Path, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use portolan_runtime::{
    Tasks,
    tls::{Changes, ClientFiles, TlsError},
};
use redis::{
    AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult, aio::MultiplexedConnection,
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::Purpose;

/// How long a connection may take to come about, with handshake and greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What moves the bytes of a connection, for as long as it is used and the other side is there.
pub(crate) type Driver = BoxFuture<'static, ()>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("not within {CONNECT_TIMEOUT:?}")]
    Timeout,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the host is no name that a certificate could have")]
    Name,
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// Makes connections to servers of one purpose.
#[derive(Clone, Debug)]
pub struct Dialer {
    tls: Option<ClientFiles>,
    pub(crate) purpose: Purpose,
}

impl Dialer {
    /// With `roots` connections are encrypted, and the servers' certificates and names verified
    /// against them; `identity` is shown to the servers. Each is a file with the configuration key
    /// that names it, read again as long as `tasks` run.
    ///
    /// # Errors
    /// A file is missing or of no use.
    pub fn load(
        purpose: Purpose,
        roots: Option<(&'static str, &Path)>,
        identity: Option<(&'static str, &Path)>,
        tasks: &Tasks,
    ) -> Result<Self, TlsError> {
        let tls = roots.map(|roots| {
            let files = ClientFiles::load(roots, identity)?;
            files.keep_current(tasks, portolan_runtime::files::POLL);
            Ok::<_, TlsError>(files)
        });
        Ok(Self { tls: tls.transpose()?, purpose })
    }

    /// Tells when connections should be made anew.
    pub(crate) fn changes(&self) -> Option<Changes> {
        self.tls.as_ref().map(ClientFiles::changes)
    }

    /// Connects to `host:port`.
    pub(crate) async fn connect(
        &self,
        address: &str,
    ) -> Result<(MultiplexedConnection, Driver), DialError> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.dial(address)).await;
        connected.unwrap_or(Err(DialError::Timeout))
    }

    async fn dial(&self, address: &str) -> Result<(MultiplexedConnection, Driver), DialError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(files) = &self.tls else { return self.greet(stream).await };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| DialError::Name)?;
        self.greet(TlsConnector::from(files.config()?).connect(name, stream).await?).await
    }

    async fn greet(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(MultiplexedConnection, Driver), DialError> {
        // What is done here has until the end of the connect timeout.
        let limits = AsyncConnectionConfig::new().set_response_timeout(None);
        let info = RedisConnectionInfo::default();
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, limits).await?;
        let mut driver = driver.boxed();
        // A request that arrives first finds its script there.
        let mut loading = connection.clone();
        tokio::select! {
            loaded = self.load_scripts(&mut loading) => loaded?,
            () = &mut driver => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
        connection.set_response_timeout(self.purpose.timeout);
        Ok((connection, driver))
    }

    async fn load_scripts(&self, on: &mut MultiplexedConnection) -> RedisResult<()> {
        for script in self.purpose.scripts {
            script.load_async(on).await?;
        }
        Ok(())
    }
}
