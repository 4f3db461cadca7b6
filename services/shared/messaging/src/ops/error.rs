use std::borrow::Cow;

use portolan_kernel::{Coded, ErrorCode, FieldViolation};
use uuid::Uuid;

/// Why nothing was done about a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// There is no such dead letter, or not any more.
    #[error("no such dead letter")]
    NotFound,
    /// It waits behind the dead letter of its key.
    #[error("the event waits behind {first}")]
    NotFirst {
        /// The first event of the queue.
        first: Uuid,
    },
    /// The first event of the queue merely waits, because a redrive ended early.
    #[error("the event is not dead")]
    NotDead,
    /// The request lacks something.
    #[error("{field} {problem}")]
    Unacceptable {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The world was in the way: the same request may succeed later. What was committed before
    /// counts.
    #[error("not now")]
    NotNow(#[source] anyhow::Error),
}

impl From<sqlx::Error> for OpsError {
    fn from(error: sqlx::Error) -> Self {
        Self::NotNow(error.into())
    }
}

impl Coded for OpsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::NotFound,
            Self::NotFirst { .. } | Self::NotDead => ErrorCode::FailedPrecondition,
            Self::Unacceptable { .. } => ErrorCode::InvalidArgument,
            Self::NotNow(_) => ErrorCode::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotFirst { .. } => "behind_another_dead_letter",
            Self::NotDead => "not_dead",
            Self::Unacceptable { .. } => "invalid_argument",
            Self::NotNow(_) => "unavailable",
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        match self {
            Self::NotFound => "There is no such dead letter, or not any more.".into(),
            Self::NotFirst { first } => {
                format!("The event waits behind {first}: deal with that first.").into()
            }
            Self::NotDead => "The event merely waits: a redrive goes on with it.".into(),
            Self::Unacceptable { field, problem } => format!("The field {field} {problem}.").into(),
            Self::NotNow(_) => "Something was in the way: try again.".into(),
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Unacceptable { field, problem } => vec![FieldViolation {
                field: (*field).to_owned(),
                description: (*problem).to_owned(),
            }],
            Self::NotFound | Self::NotFirst { .. } | Self::NotDead | Self::NotNow(_) => Vec::new(),
        }
    }

    fn retry_after_secs(&self) -> Option<u32> {
        matches!(self, Self::NotNow(_)).then_some(1)
    }
}
