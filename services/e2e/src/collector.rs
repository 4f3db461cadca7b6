//! A place to send spans to, as the collector of a deployment is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span as WireSpan, span::SpanKind},
};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, transport::Server};

use portolan_testkit::free_port;

/// A span as it was exported.
#[derive(Clone, Debug)]
pub struct Span {
    /// The process, for instance `portolan-order`.
    pub service: String,
    /// What it calls the span.
    pub name: String,
    /// Whether it calls, is called, writes or reads.
    pub kind: SpanKind,
    /// The trace id, in hexadecimal digits.
    pub trace: String,
    /// The span's own id.
    pub id: String,
    /// The parent's; empty for the first span of a trace.
    pub parent: String,
    /// What it says, numbers as text.
    pub attributes: BTreeMap<String, String>,
}

impl Span {
    /// One attribute, `""` where it is missing.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// Takes spans over OTLP/gRPC and keeps them until it is dropped.
#[derive(Debug)]
pub struct Collector {
    url: String,
    spans: Spans,
    server: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Listens on a port of its own.
    #[expect(clippy::disallowed_methods, reason = "ends with the collector")]
    pub fn start() -> Self {
        let (address, spans) = (([127, 0, 0, 1], free_port()), Spans::default());
        let service = TraceServiceServer::new(spans.clone());
        let server = tokio::spawn(async move {
            let served = Server::builder().add_service(service).serve(address.into()).await;
            served.expect("a port that was free a moment ago");
        });
        Self { url: format!("http://127.0.0.1:{}", address.1), spans, server }
    }

    /// Where to send spans.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has arrived of a trace.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let spans = self.spans.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().filter(|span| span.trace == id).cloned().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let read: Vec<Span> =
            request.into_inner().resource_spans.into_iter().flat_map(spans_of).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn spans_of(group: ResourceSpans) -> Vec<Span> {
    let resource = group.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
    let service = resource.get("service.name").cloned().unwrap_or_default();
    let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(|span| read(&service, span)).collect()
}

fn read(service: &str, span: WireSpan) -> Span {
    Span {
        service: service.to_owned(),
        kind: span.kind(),
        name: span.name,
        trace: hex::encode(&span.trace_id),
        id: hex::encode(&span.span_id),
        parent: hex::encode(&span.parent_span_id),
        attributes: texts(span.attributes),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}
