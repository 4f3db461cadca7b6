use axum::{body::Body, response::Response};
use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;

/// The media type of a problem document.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
const TYPE_BASE: &str = "https://portolan.dev/problems/";

/// An error, as RFC 9457 has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    /// Identifies the kind of problem. Stable.
    #[serde(rename = "type")]
    #[schema(format = "uri", example = "https://portolan.dev/problems/user-busy")]
    kind: String,
    /// The kind of problem in words.
    #[schema(example = "Another order of the same customer is being placed")]
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 409)]
    status: u16,
    /// Identifies the kind of problem, for programs. Stable.
    #[schema(example = "user_busy")]
    code: String,
    /// What happened this time, for people.
    detail: String,
    /// The path that was asked for.
    #[schema(example = "/v1/orders")]
    instance: String,
    /// The trace of this request: 32 hexadecimal digits, for finding it in logs and traces.
    #[schema(example = "0af7651916cd43dd8448eb211c80319c")]
    trace_id: String,
    /// The fields at fault, if the request is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

/// What is wrong with one field or header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The path in the body, or the name of the header or query parameter.
    #[schema(example = "lines[2].quantity")]
    pub(crate) field: String,
    /// What is wrong with it.
    #[schema(example = "must be a whole number from 1 to 100000")]
    pub(crate) message: String,
}

impl Problem {
    /// The document of this problem for one request.
    pub(crate) fn document(&self, instance: &str, trace_id: &str) -> ProblemDocument {
        ProblemDocument {
            kind: format!("{TYPE_BASE}{}", self.code.replace('_', "-")),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            code: self.code.clone().into_owned(),
            detail: self.detail.clone().into_owned(),
            instance: instance.to_owned(),
            trace_id: trace_id.to_owned(),
            errors: self.errors.clone(),
        }
    }
}

/// Gives a response the document as its body. Headers such as `Allow` stay.
pub(crate) fn render(
    mut response: Response,
    problem: &Problem,
    instance: &str,
    trace_id: &str,
) -> Response {
    let document = problem.document(instance, trace_id);
    let body = serde_json::to_vec(&document).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from(body);
    response
}
