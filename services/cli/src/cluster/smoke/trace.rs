//! What Jaeger is asked: one trace, in OTLP's JSON form (Jaeger's `/api/v3`).

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::gateway;

/// Every service calls itself this and its name.
const PREFIX: &str = "portolan-";

/// Jaeger's query service.
#[derive(Debug)]
pub(super) struct Jaeger {
    http: reqwest::Client,
    base: String,
}

/// A trace as far as it has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Who took part.
    pub(super) components: BTreeSet<String>,
    pub(super) spans: usize,
}

#[derive(Debug, Deserialize)]
struct Response {
    result: Trace,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Deserialize)]
struct Attribute {
    key: String,
    value: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    string_value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ScopeSpans {
    spans: Vec<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    #[serde(default)]
    parent_span_id: String,
}

impl Jaeger {
    /// # Errors
    /// It is not an HTTP URL.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { http: gateway::client()?, base: gateway::base(url)? })
    }

    /// One trace.
    ///
    /// # Errors
    /// It is not there yet, or not one trace.
    pub(super) async fn trace(&self, id: &str) -> anyhow::Result<Found> {
        let url = format!("{}/api/v3/traces/{id}", self.base);
        let response = self.http.get(&url).send().await.context("Jaeger does not answer")?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => bail!("Jaeger does not know it"),
            other => bail!("Jaeger answers {other}"),
        }
        let text = response.bytes().await.context("Jaeger's answer ends early")?;
        let response: Response =
            serde_json::from_slice(&text).context("Jaeger's answer is not a trace")?;
        found(&response.result, id)
    }
}

fn found(trace: &Trace, id: &str) -> anyhow::Result<Found> {
    let spans: Vec<&Span> = trace
        .resource_spans
        .iter()
        .flat_map(|of| &of.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    let strange = spans.iter().filter(|span| !span.trace_id.eq_ignore_ascii_case(id)).count();
    ensure!(strange == 0, "{strange} of its spans are of another trace");
    let roots = spans.iter().filter(|span| span.parent_span_id.is_empty()).count();
    ensure!(roots <= 1, "it has {roots} beginnings");
    let components = trace.resource_spans.iter().filter_map(|of| component(&of.resource)).collect();
    Ok(Found { components, spans: spans.len() })
}

fn component(resource: &Resource) -> Option<String> {
    let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name")?;
    name.value.string_value.as_ref()?.strip_prefix(PREFIX).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(service: &str, spans: &serde_json::Value) -> serde_json::Value {
        json!({
            "resource": {"attributes": [
                {"key": "process.pid", "value": {"intValue": "7"}},
                {"key": "service.name", "value": {"stringValue": service}},
            ]},
            "scopeSpans": [{"scope": {"name": "portolan"}, "spans": spans}],
        })
    }

    fn parse(parts: &[serde_json::Value]) -> anyhow::Result<Found> {
        found(&serde_json::from_value(json!({"resourceSpans": parts})).unwrap(), "aa")
    }

    #[test]
    fn a_trace_says_who_took_part() {
        let gateway = of("portolan-gateway", &json!([{"traceId": "aa", "spanId": "1"}]));
        let order = of(
            "portolan-order",
            &json!([{"traceId": "AA", "parentSpanId": "1"}, {"traceId": "aa", "parentSpanId": "2"}]),
        );
        let found = parse(&[gateway, order]).unwrap();
        let components = BTreeSet::from(["gateway".to_owned(), "order".to_owned()]);
        assert_eq!(found, Found { components, spans: 3 });
    }

    #[test]
    fn spans_that_do_not_hang_together_are_not_one_trace() {
        let two = of("portolan-order", &json!([{"traceId": "aa"}, {"traceId": "aa"}]));
        assert!(parse(&[two]).unwrap_err().to_string().contains("2 beginnings"));
        let other = of("portolan-order", &json!([{"traceId": "bb", "parentSpanId": "1"}]));
        assert!(parse(&[other]).unwrap_err().to_string().contains("another trace"));
    }
}
