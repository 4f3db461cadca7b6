use std::borrow::Cow;

use portolan_kernel::{Coded, ErrorCode, FieldViolation};
use portolan_runtime::database;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The order's id is no id.
    #[error("order_id is not an id")]
    OrderId,
    /// The database did not do it.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl Coded for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OrderId => ErrorCode::InvalidArgument,
            Self::Database(error) if database::is_transient(error) => ErrorCode::Unavailable,
            Self::Database(_) => ErrorCode::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::OrderId => "invalid_argument",
            Self::Database(error) if database::is_transient(error) => "unavailable",
            Self::Database(_) => "internal",
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        match self {
            Self::OrderId => "the request is not acceptable".into(),
            Self::Database(error) if database::is_transient(error) => {
                "notifications are not available now".into()
            }
            Self::Database(_) => "internal error".into(),
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::OrderId => vec![FieldViolation {
                field: "order_id".to_owned(),
                description: "must be a UUID".to_owned(),
            }],
            Self::Database(_) => Vec::new(),
        }
    }
}
