use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::TextMapPropagator as _,
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const HEADER: &str = "traceparent";

/// Where in which trace we are: the value of a `traceparent` header (W3C Trace Context, level 1),
/// or nothing. What is stored with an event and sent with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceContext(String);

impl TraceContext {
    /// Outside of any trace.
    pub const fn none() -> Self {
        Self(String::new())
    }

    /// The current span's.
    pub fn current() -> Self {
        Self::of(&Span::current())
    }

    /// That span's.
    pub fn of(span: &Span) -> Self {
        Self::from_otel(&span.context())
    }

    /// Reads a `traceparent`; anything malformed is nothing, as the standard asks.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        Self::from_otel(&extract(text))
    }

    /// The header's value, `""` outside of a trace.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is outside of any trace.
    pub const fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The trace id: 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> Option<String> {
        self.0.split('-').nth(1).map(ToOwned::to_owned)
    }

    /// Makes `span`, which must be new, a part of this trace, and records its `trace_id` field if
    /// it declares one. Outside of a trace the span begins its own.
    pub fn set_parent(&self, span: &Span) {
        if !self.is_none() && span.set_parent(extract(&self.0)).is_err() {
            tracing::trace!("the span cannot take a parent");
        }
        if let Some(trace_id) = Self::of(span).trace_id() {
            span.record("trace_id", trace_id);
        }
    }

    fn from_otel(context: &Context) -> Self {
        let span = context.span();
        let span: &SpanContext = span.span_context();
        if !span.is_valid() {
            return Self::none();
        }
        let flags = span.trace_flags().to_u8() & 1;
        Self(format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
    }
}

fn extract(text: &str) -> Context {
    let carrier = HashMap::from([(HEADER.to_owned(), text.to_owned())]);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_survives_reading_and_writing() {
        let context = TraceContext::parse(PARENT);
        assert_eq!(context.as_str(), PARENT);
        assert_eq!(context.trace_id().unwrap(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for bad in ["", "00", "x", zero, "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
        {
            let context = TraceContext::parse(bad);
            assert!(context.is_none(), "{bad}");
            assert_eq!(context.trace_id(), None);
        }
    }
}
