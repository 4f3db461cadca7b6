use std::error::Error as _;

use portolan_kernel::{ErrorCode, FieldViolation};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::ERROR_DOMAIN;

/// An error that another service answered, or the failure to get an answer: the reverse of
/// [`super::status`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Remote {
    /// The class of failure.
    pub code: ErrorCode,
    /// The stable name, for instance `user_busy`; for a failure of the transport `unavailable` or
    /// `deadline_exceeded`.
    pub reason: String,
    /// The sentence for the caller.
    pub message: String,
    /// The fields at fault.
    pub violations: Vec<FieldViolation>,
    /// When to try again, in seconds.
    pub retry_after_secs: Option<u32>,
}

impl From<Status> for Remote {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        match info {
            Some(info) => Self {
                code: ErrorCode::from_grpc(status.code().into()),
                reason: info.reason.clone(),
                message: status.message().to_owned(),
                violations: violations(&details),
                retry_after_secs: retry_after(&details),
            },
            None => Self::without_details(&status),
        }
    }
}

impl Remote {
    /// Nothing of ours answered: the transport failed, or a layer before the service did. Such
    /// messages may name addresses, so none of them reaches the caller.
    fn without_details(status: &Status) -> Self {
        let transport = status.source().is_some_and(|source| source.is::<tonic::transport::Error>());
        let code = if transport || status.code() == Code::Unknown {
            ErrorCode::Unavailable
        } else {
            ErrorCode::from_grpc(status.code().into())
        };
        tracing::debug!(code = ?status.code(), message = status.message(), "no answer");
        let (reason, message) = plain(code);
        Self {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            violations: Vec::new(),
            retry_after_secs: None,
        }
    }
}

fn plain(code: ErrorCode) -> (&'static str, &'static str) {
    match code {
        ErrorCode::InvalidArgument => ("invalid_argument", "The request is not valid."),
        ErrorCode::Unauthenticated => ("unauthenticated", "Valid credentials are missing."),
        ErrorCode::PermissionDenied => ("permission_denied", "This is not allowed."),
        ErrorCode::NotFound => ("not_found", "There is no such thing."),
        ErrorCode::AlreadyExists => ("already_exists", "It exists already."),
        ErrorCode::Aborted => ("aborted", "Somebody else was faster. Try again."),
        ErrorCode::FailedPrecondition => ("failed_precondition", "This is not possible now."),
        ErrorCode::ResourceExhausted => ("resource_exhausted", "A limit is reached."),
        ErrorCode::DeadlineExceeded => ("deadline_exceeded", "The answer took too long."),
        ErrorCode::Unavailable => ("unavailable", "The service cannot be reached. Try again."),
        ErrorCode::Internal => ("internal", "Something went wrong on our side."),
    }
}

fn violations(details: &ErrorDetails) -> Vec<FieldViolation> {
    let Some(request) = details.bad_request() else { return Vec::new() };
    let copy = |violation: &tonic_types::FieldViolation| FieldViolation {
        field: violation.field.clone(),
        description: violation.description.clone(),
    };
    request.field_violations.iter().map(copy).collect()
}

fn retry_after(details: &ErrorDetails) -> Option<u32> {
    let delay = details.retry_info()?.retry_delay?;
    let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}
