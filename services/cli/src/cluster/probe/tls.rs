//! The probe's side of a TLS connection.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use anyhow::Context as _;
use portolan_runtime::tls::TlsConfig;
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// As whom to call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Certificate<'a> {
    Ours,
    Of(&'a Path),
    None,
}

/// What we show, and what we want to see.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) client: Arc<ClientConfig>,
    /// The only URI that the server's certificate may have.
    expected: String,
}

impl Settings {
    /// # Errors
    /// A file cannot be read or used.
    pub(super) fn new(
        config: &TlsConfig,
        component: &str,
        certificate: &Certificate<'_>,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&config.roots)? {
            roots.add(root).with_context(|| format!("{}", config.roots.display()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots);
        let identity = match certificate {
            Certificate::Ours => Some(config.identity.as_path()),
            Certificate::Of(file) => Some(*file),
            Certificate::None => None,
        };
        let mut client = match identity {
            Some(file) => {
                let key = PrivateKeyDer::from_pem_file(file)
                    .map_err(|_| anyhow::anyhow!("{} has no usable key", file.display()))?;
                builder.with_client_auth_cert(certificates(file)?, key)?
            }
            None => builder.with_no_client_auth(),
        };
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { client: Arc::new(client), expected: config.domain().id(component).to_string() })
    }

    /// Whether the one we wanted is at the other end.
    ///
    /// # Errors
    /// Who is there instead.
    pub(super) fn check(&self, stream: &TlsStream<TcpStream>) -> Result<(), String> {
        let (_, connection) = stream.get_ref();
        let leaf = connection.peer_certificates().and_then(|chain| chain.first());
        let uris = leaf.map(uris).unwrap_or_default();
        if uris == [self.expected.as_str()] {
            return Ok(());
        }
        Err(format!("{} answers instead of {}", uris.join(" and "), self.expected))
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("{} has no usable certificate", file.display());
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).with_context(unreadable)?.collect();
    all.with_context(unreadable)
}

fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &GeneralName<'_>| {
        if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

/// What TLS says of an error, without what the layers around it say.
pub(super) fn reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.map_or_else(|| error.to_string(), ToString::to_string)
}

/// A connection that remembers why TLS ended it.
#[derive(Debug)]
pub(super) struct Tapped {
    stream: TlsStream<TcpStream>,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Tapped {
    pub(super) fn new(stream: TlsStream<TcpStream>, refusal: Arc<Mutex<Option<String>>>) -> Self {
        Self { stream, refusal }
    }

    /// Whoever closes on us may have said why before.
    fn last_words(&mut self, cx: &mut Context<'_>) {
        let mut bytes = [0; 1024];
        let mut buffer = ReadBuf::new(&mut bytes);
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            self.note(&error);
        }
    }

    fn note(&self, error: &io::Error) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if inner.is_some() {
            let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            *refusal = Some(reason(error));
        }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if let Err(error) = &read {
            self.note(error);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        if written.is_err() {
            self.last_words(cx);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        if flushed.is_err() {
            self.last_words(cx);
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
