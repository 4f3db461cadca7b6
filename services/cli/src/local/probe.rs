use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustls::ClientConfig;
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::ports::loopback;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// In bytes: as much of an answer as is read.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// How to find out whether a component is ready.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// Accepts connections: Kafka opens its port when it is ready.
    Connect(u16),
    /// Lets the owner of this address in.
    Postgres(Box<PgConnectOptions>),
    /// Answers `PING`, which it does not while it loads its data; over TLS if there is a setup for
    /// it.
    Redis(u16, Option<Arc<ClientConfig>>),
    /// Answers `/readyz` of this admin port with 200.
    Ready(u16),
}

impl Probe {
    /// # Errors
    /// It is not ready; why.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        timeout(PATIENCE, self.ask()).await.context("no answer")?
    }

    async fn ask(&self) -> anyhow::Result<()> {
        match self {
            Self::Connect(port) => {
                TcpStream::connect(loopback(*port)).await?;
                Ok(())
            }
            Self::Postgres(options) => {
                let mut connection = options.connect().await?;
                connection.ping().await?;
                connection.close().await?;
                Ok(())
            }
            Self::Redis(port, tls) => {
                let stream = TcpStream::connect(loopback(*port)).await?;
                let answer = match tls {
                    None => exchange(stream, b"PING\r\n", 7).await?,
                    Some(tls) => {
                        let name = IpAddr::from(Ipv4Addr::LOCALHOST).into();
                        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
                        exchange(stream.await?, b"PING\r\n", 7).await?
                    }
                };
                ensure!(answer == b"+PONG\r\n", "{}", String::from_utf8_lossy(&answer));
                Ok(())
            }
            Self::Ready(port) => {
                let request =
                    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                let stream = TcpStream::connect(loopback(*port)).await?;
                let answer = exchange(stream, request, LONGEST_ANSWER).await?;
                ensure!(
                    answer.starts_with(b"HTTP/1.1 200 "),
                    "{}",
                    String::from_utf8_lossy(&answer)
                );
                Ok(())
            }
        }
    }
}

/// Sends a request and returns at most the first `length` bytes of the answer.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
    length: u64,
) -> anyhow::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.take(length).read_to_end(&mut answer).await?;
    Ok(answer)
}
