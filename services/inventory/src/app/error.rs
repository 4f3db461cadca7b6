use std::borrow::Cow;

use portolan_kernel::{Coded, ErrorCode, FieldViolation};
use portolan_runtime::database;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong, whatever is in the catalogue.
    #[error("the request is not acceptable: {}", fields(.0))]
    Invalid(Vec<FieldViolation>),
    /// No such product.
    #[error("no such product")]
    NotFound,
    /// The database did not do it.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// One field of the request is wrong.
    pub fn field(field: &str, description: impl Into<String>) -> Self {
        let field = field.to_owned();
        Self::Invalid(vec![FieldViolation { field, description: description.into() }])
    }
}

fn fields(violations: &[FieldViolation]) -> String {
    violations
        .iter()
        .map(|v| format!("{} {}", v.field, v.description))
        .collect::<Vec<_>>()
        .join("; ")
}

impl Coded for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidArgument,
            Self::NotFound => ErrorCode::NotFound,
            Self::Database(error) if database::is_transient(error) => ErrorCode::Unavailable,
            Self::Database(_) => ErrorCode::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_argument",
            Self::NotFound => "not_found",
            Self::Database(error) if database::is_transient(error) => "unavailable",
            Self::Database(_) => "internal",
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        match self {
            Self::Invalid(_) => "the request is not acceptable".into(),
            Self::NotFound => "no such product".into(),
            Self::Database(error) if database::is_transient(error) => {
                "the catalogue is not available now".into()
            }
            Self::Database(_) => "internal error".into(),
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid(violations) => violations.clone(),
            Self::NotFound | Self::Database(_) => Vec::new(),
        }
    }
}
