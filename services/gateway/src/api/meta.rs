use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use utoipa::ToSchema;

use crate::{app::App, extract::Visitor, openapi::NotFoundProblem, problem::Problem};

const CACHEABLE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// A key set (RFC 7517), for the description only.
#[derive(Debug, ToSchema)]
#[schema(as = Jwks)]
#[expect(dead_code, reason = "describes the document of portolan-auth")]
pub(crate) struct KeySet {
    /// The public keys; each has `kty`, `kid`, `alg`, `use`, `crv` and `x`.
    keys: Vec<serde_json::Value>,
}

/// Get the signing keys
///
/// Exists only while the built-in development issuer is enabled.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "tokens", operation_id = "getKeys",
    responses((status = 200, description = "The key set", body = KeySet), NotFoundProblem),
    security(()),
)]
pub(crate) async fn get_keys(
    State(app): State<App>,
    _visitor: Visitor,
) -> Result<Response, Problem> {
    let login = app.login.as_ref().ok_or_else(Problem::not_found)?;
    Ok(([(CACHE_CONTROL, CACHEABLE)], axum::Json(login.issuer.jwks())).into_response())
}

/// Get this description
#[utoipa::path(
    get, path = "/openapi.json", tag = "meta", operation_id = "getDescription",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
    security(()),
)]
pub(crate) async fn get_description(State(app): State<App>, _visitor: Visitor) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CACHE_CONTROL, CACHEABLE), (CONTENT_TYPE, json)], app.description).into_response()
}
