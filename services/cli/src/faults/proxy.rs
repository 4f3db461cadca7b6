//! Stands between the services and what they use, and can be a bad network: slow, cut off, or
//! silent.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

/// How the network behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As if it were not there.
    Clear,
    /// Whatever is sent, either way, arrives so much later.
    Slow(Duration),
    /// Connections are reset, new ones at once.
    Reset,
    /// Nothing arrives, nobody says why, and new connections are taken and ignored.
    Silent,
}

/// One way into the network: passes on what comes in, as the mode has it.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    mode: Arc<watch::Sender<Mode>>,
    _listening: Arc<JoinSet<()>>,
}

impl Proxy {
    /// Listens at `from` and passes on to `to`, until the last clone of this is gone.
    ///
    /// # Errors
    /// The port is taken.
    pub(super) async fn open(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(from).await?;
        let mode = Arc::new(watch::Sender::new(Mode::Clear));
        let mut listening = JoinSet::new();
        listening.spawn(accept(listener, to, mode.subscribe()));
        Ok(Self { mode, _listening: Arc::new(listening) })
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(carry(stream, to, mode.clone()));
                }
                // Out of descriptors, perhaps: others will be closed.
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until either side ends it or the network does.
async fn carry(mut client: TcpStream, to: SocketAddr, mode: watch::Receiver<Mode>) {
    let pass = async {
        // What was silent before it was connected stays so.
        until(&mut mode.clone(), |mode| mode != Mode::Silent).await;
        let mut server = TcpStream::connect(to).await?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        tokio::try_join!(
            pump(client_reads, server_writes, mode.clone()),
            pump(server_reads, client_writes, mode.clone()),
        )
    };
    let mut watched = mode.clone();
    let broken = tokio::select! {
        passed = pass => passed.is_err(),
        () = until(&mut watched, |mode| mode == Mode::Reset) => true,
    };
    if broken {
        // The other side is told by a reset instead of an orderly end.
        let _gone = client.set_zero_linger();
    }
}

async fn until(mode: &mut watch::Receiver<Mode>, wanted: impl Fn(Mode) -> bool) {
    let _closed = mode.wait_for(|mode| wanted(*mode)).await;
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        until(&mut mode, |mode| mode != Mode::Silent).await;
        let now = *mode.borrow();
        if let Mode::Slow(by) = now {
            sleep(by).await;
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::{Instant, timeout};

    use super::*;

    /// A server that sends everything back, and a proxy before it.
    async fn echo() -> (SocketAddr, Proxy) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = TcpListener::bind(any).await.unwrap();
        let to = server.local_addr().unwrap();
        let free = std::net::TcpListener::bind(any).unwrap().local_addr().unwrap();
        let proxy = Proxy::open(free, to).await.unwrap();
        let serve = async move {
            let mut all = JoinSet::new();
            while let Ok((mut stream, _)) = server.accept().await {
                all.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        };
        let mut serving = JoinSet::new();
        serving.spawn(serve);
        std::mem::forget(serving);
        (free, proxy)
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_clear_network_carries_and_a_slow_one_takes_its_time() {
        let (address, proxy) = echo().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        proxy.set(Mode::Slow(Duration::from_millis(100)));
        let asked = Instant::now();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        assert!(asked.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_reset_ends_connections_and_new_ones_until_it_is_over() {
        let (address, proxy) = echo().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream).await.unwrap();
        proxy.set(Mode::Reset);
        assert!(stream.read_u8().await.is_err());
        let mut other = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut other).await.is_err());
        proxy.set(Mode::Clear);
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn what_a_silent_network_holds_back_arrives_when_it_speaks_again() {
        let (address, proxy) = echo().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream).await.unwrap();
        proxy.set(Mode::Silent);
        let waited = timeout(Duration::from_millis(100), ask(&mut stream)).await;
        assert!(waited.is_err());
        proxy.set(Mode::Clear);
        let mut late = [0; 4];
        stream.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"ping");
    }
}
