use std::{io::IsTerminal as _, panic::PanicHookInfo, time::Duration};

use anyhow::Context as _;
use http::{Uri, uri::Scheme};
use hyper_util::rt::TokioIo;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tonic::transport::{Channel, Endpoint};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::dynamic_filter_fn, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{ConfigError, LogFormat, TelemetryConfig, Tls, net::Dialer};

/// The component that collects spans, as its certificate names it.
const COLLECTOR: &str = "jaeger";
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Keeps the span provider, to be flushed at the end.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Installs logs, spans and the propagator for the process. Must be called within a tokio
/// runtime, which the exporter uses. A collector that is down costs spans, nothing else.
///
/// # Errors
/// The filter does not parse, or a subscriber is installed already.
pub fn init(
    service: &'static str,
    config: &TelemetryConfig,
    tls: Option<&Tls>,
) -> anyhow::Result<Telemetry> {
    let provider = provider(service, config, tls)?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("portolan"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(dynamic_filter_fn(|metadata, _| ours(metadata)));
    let filter = EnvFilter::try_new(&config.log_filter).context("telemetry.log_filter")?;
    let logs = lines(config.log_format).with_filter(filter);
    Registry::default().with(spans).with(logs).try_init().context("telemetry is set up twice")?;
    Ok(Telemetry { provider })
}

/// Makes panics log lines like any other, in the same format and on one line.
pub fn log_panics() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    tracing::error!(target: "portolan::panic", "{text}");
}

/// Spans of libraries are not exported: they would be many and say little.
///
/// The filter must be a dynamic one. The answer of a static one is cached for each callsite, and
/// then a library's `tracing::enabled!` (sqlx asks before every query) leaves its own answer
/// behind for the next span of the thread, which would vanish from its trace.
fn ours(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && metadata.target().starts_with("portolan")
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).boxed()
        }
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
    }
}

fn provider(
    service: &'static str,
    config: &TelemetryConfig,
    tls: Option<&Tls>,
) -> anyhow::Result<SdkTracerProvider> {
    let resource = Resource::builder().with_service_name(format!("portolan-{service}")).build();
    let mut builder = SdkTracerProvider::builder().with_resource(resource);
    if let Some(endpoint) = &config.otlp_endpoint {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(collector(endpoint, tls).context("telemetry.otlp_endpoint")?)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("telemetry.otlp_endpoint")?;
        builder = builder.with_batch_exporter(exporter);
    }
    Ok(builder.build())
}

/// The way to the collector: like that to any component, but as a channel of tonic's, since the
/// exporter takes no other.
fn collector(url: &str, tls: Option<&Tls>) -> Result<Channel, ConfigError> {
    let url: Uri = url.parse().map_err(|_| ConfigError::Url)?;
    let dialer = Dialer::new(&url, tls, COLLECTOR)?;
    let connect = tower::service_fn(move |_: Uri| {
        let dialer = dialer.clone();
        async move { dialer.connect_any().await.map(TokioIo::new) }
    });
    // The dialer has done what the scheme says; the channel would encrypt once more.
    let mut plain = url.into_parts();
    plain.scheme = Some(Scheme::HTTP);
    let plain = Uri::from_parts(plain).map_err(|_| ConfigError::Url)?;
    let endpoint = Endpoint::from(plain).timeout(EXPORT_TIMEOUT);
    Ok(endpoint.connect_with_connector_lazy(connect))
}

impl Telemetry {
    /// Sends what is left, for at most a few seconds. The exporter blocks, hence the thread.
    pub async fn flush(self) {
        let shutdown = move || self.provider.shutdown_with_timeout(EXPORT_TIMEOUT);
        let thread = tokio::task::spawn_blocking(shutdown);
        let _ = tokio::time::timeout(EXPORT_TIMEOUT + Duration::from_secs(1), thread).await;
    }
}
