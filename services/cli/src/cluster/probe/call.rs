//! One gRPC call over a connection that is made by hand, so that every way to fail has its name.

use std::{
    error::Error as _,
    io::{self, Cursor},
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use http::uri::{PathAndQuery, Scheme, Uri};
use hyper_util::rt::TokioIo;
use portolan_runtime::tls::TlsConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{
    Outcome,
    tls::{self, Certificate, Tapped},
};

/// How long a server that waits for us to speak is waited for.
const VERDICT: Duration = Duration::from_millis(500);

/// What to call, where and as whom.
#[derive(Debug)]
pub(super) struct Call {
    host: String,
    port: u16,
    path: PathAndQuery,
    tls: Option<tls::Settings>,
}

impl Call {
    /// # Errors
    /// An argument makes no sense, or a file cannot be used.
    pub(super) fn new(
        url: &str,
        method: &str,
        component: Option<&str>,
        tls: Option<&TlsConfig>,
        certificate: &Certificate<'_>,
    ) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        ensure!(secure || uri.scheme() == Some(&Scheme::HTTP), "{url} is not an HTTP URL");
        let tls = if secure {
            let config = tls.context("an https address needs a --config with [tls]")?;
            let component = component.context("an https address needs a --component")?;
            Some(tls::Settings::new(config, component, certificate)?)
        } else {
            None
        };
        let path = format!("/{}", method.trim_start_matches('/'));
        Ok(Self {
            host: uri.host().context("the address names no host")?.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: PathAndQuery::from_str(&path).context("that is no method")?,
            tls,
        })
    }

    /// # Errors
    /// It cannot be tried.
    pub(super) async fn make(self) -> anyhow::Result<Outcome> {
        let host = self.host.trim_matches(['[', ']']);
        let tcp = match TcpStream::connect((host, self.port)).await {
            Ok(tcp) => tcp,
            Err(error) => return Ok(Outcome::Unreachable(error.to_string())),
        };
        let Some(settings) = &self.tls else { return Ok(self.ask(tcp).await) };
        let name = ServerName::try_from(host.to_owned()).context("the host has no usable name")?;
        let connected = TlsConnector::from(Arc::clone(&settings.client)).connect(name, tcp).await;
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => return Ok(Outcome::Tls(tls::reason(&error))),
        };
        if let Err(reason) = settings.check(&stream) {
            return Ok(Outcome::Tls(reason));
        }
        // With TLS 1.3 we are done before the server has looked at our certificate: its refusal
        // comes with the first bytes, whoever reads them.
        let refusal = Arc::default();
        let mut stream = Tapped::new(stream, Arc::clone(&refusal));
        let said = first_words(&mut stream).await;
        if let Some(reason) = take(&refusal) {
            return Ok(Outcome::Tls(reason));
        }
        let (rest, answers) = tokio::io::split(stream);
        let stream = tokio::io::join(Cursor::new(said).chain(rest), answers);
        let outcome = self.ask(stream).await;
        Ok(take(&refusal).map_or(outcome, Outcome::Tls))
    }

    /// Calls over a connection that is there.
    async fn ask<S>(&self, stream: S) -> Outcome
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match self.connect(stream).await {
            Ok(channel) => self.call(channel).await,
            Err(error) => Outcome::Unreachable(portolan_runtime::one_line(&error)),
        }
    }

    async fn connect<S>(&self, stream: S) -> Result<Channel, tonic::transport::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut stream = Some(TokioIo::new(stream));
        let once = service_fn(move |_: Uri| {
            let stream = stream.take();
            async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let authority = format!("http://{}:{}", self.host, self.port);
        Endpoint::from_shared(authority)?.connect_with_connector(once).await
    }

    /// Asks as for a stream, which is right for a single answer, too: the first message decides.
    async fn call(&self, channel: Channel) -> Outcome {
        let asked = async {
            let mut client = Grpc::new(channel);
            client.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<(), ()>::default();
            let answer =
                client.server_streaming(Request::new(()), self.path.clone(), codec).await?;
            answer.into_inner().message().await
        };
        match asked.await {
            Ok(_) => Outcome::Grpc(Code::Ok),
            Err(status) => match status.source() {
                None => Outcome::Grpc(status.code()),
                // Not what the server said, but what became of the connection.
                Some(source) => Outcome::Unreachable(portolan_runtime::one_line(source)),
            },
        }
    }
}

/// What the server says before we have said anything, if it does not take long. Were we to speak
/// first, a server that hangs up on us would answer our words with a reset, and its refusal could
/// be lost on the way.
async fn first_words(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = vec![0; 1024];
    let read = tokio::time::timeout(VERDICT, stream.read(&mut said)).await;
    let length = read.ok().and_then(Result::ok).unwrap_or_default();
    said.truncate(length);
    said
}

fn take(refusal: &Mutex<Option<String>>) -> Option<String> {
    refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
}
