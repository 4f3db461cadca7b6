use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, postgres::PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

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
    Postgres(String),
    /// Answers `PING`, which it does not while it loads its data.
    Redis(u16),
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
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                connection.ping().await?;
                connection.close().await?;
                Ok(())
            }
            Self::Redis(port) => {
                let answer = exchange(*port, b"PING\r\n", 7).await?;
                ensure!(answer == b"+PONG\r\n", "{}", String::from_utf8_lossy(&answer));
                Ok(())
            }
            Self::Ready(port) => {
                let request =
                    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                let answer = exchange(*port, request, LONGEST_ANSWER).await?;
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
async fn exchange(port: u16, request: &[u8], length: u64) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(loopback(port)).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.take(length).read_to_end(&mut answer).await?;
    Ok(answer)
}
