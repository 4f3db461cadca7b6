use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Why a request was not decided.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{detail}")]
    Rejected { status: StatusCode, code: &'static str, detail: String },
    #[error("the field {field} is not valid: {detail}")]
    Field { field: &'static str, detail: &'static str },
    #[error("show the API key: `Authorization: Bearer <key>`")]
    Unauthenticated,
    #[error("the key was used for another request")]
    KeyReused,
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("the amount is more than was authorised")]
    AmountExceedsAuthorization,
    #[error("the card's behaviour: this time nothing is done")]
    SimulatedOutage,
    #[error("the card's behaviour: {0}")]
    SimulatedFailure(&'static str),
    #[error("the simulator is shutting down")]
    ShuttingDown,
    #[error("the database cannot be reached")]
    Unavailable(#[source] sqlx::Error),
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    #[error("the ledger holds what it should not: {0}")]
    Corrupt(String),
    #[error("the key is being used by other requests all the time")]
    Contended,
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if portolan_runtime::database::is_transient(&error) {
            Self::Unavailable(error)
        } else {
            Self::Database(error)
        }
    }
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Rejected { status, .. } => *status,
            Self::Field { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::KeyReused | Self::AmountExceedsAuthorization => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::SimulatedOutage | Self::ShuttingDown | Self::Unavailable(_) | Self::Contended => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::SimulatedFailure(_) | Self::Database(_) | Self::Corrupt(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Rejected { code, .. } => code,
            Self::Field { .. } => "invalid_field",
            Self::Unauthenticated => "unauthenticated",
            Self::KeyReused => "idempotency_key_reused",
            Self::AmountExceedsAuthorization => "amount_exceeds_authorization",
            Self::NotFound(_) => "not_found",
            Self::SimulatedOutage | Self::SimulatedFailure(_) => "simulated_failure",
            Self::ShuttingDown | Self::Unavailable(_) | Self::Contended => "unavailable",
            Self::Database(_) | Self::Corrupt(_) => "internal",
        }
    }

    /// The caller's own faults and what the card prescribes are explained, ours are not.
    fn detail(&self) -> String {
        match self {
            Self::Database(_) | Self::Corrupt(_) => "The simulator failed.".to_owned(),
            Self::Rejected { .. }
            | Self::Field { .. }
            | Self::Unauthenticated
            | Self::KeyReused
            | Self::NotFound(_)
            | Self::AmountExceedsAuthorization
            | Self::SimulatedOutage
            | Self::SimulatedFailure(_)
            | Self::ShuttingDown
            | Self::Unavailable(_)
            | Self::Contended => self.to_string(),
        }
    }
}

#[derive(Serialize)]
struct Body {
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if matches!(self, Self::Database(_) | Self::Corrupt(_) | Self::Unavailable(_)) {
            tracing::error!(error = &self as &dyn std::error::Error, "a request failed");
        }
        let status = self.status();
        let field = match &self {
            Self::Field { field, .. } => Some(*field),
            Self::Rejected { .. }
            | Self::Unauthenticated
            | Self::KeyReused
            | Self::NotFound(_)
            | Self::AmountExceedsAuthorization
            | Self::SimulatedOutage
            | Self::SimulatedFailure(_)
            | Self::ShuttingDown
            | Self::Unavailable(_)
            | Self::Database(_)
            | Self::Corrupt(_)
            | Self::Contended => None,
        };
        let body = Body {
            r#type: format!("urn:portolan:psp:{}", self.code()),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: self.code(),
            detail: self.detail(),
            field,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
