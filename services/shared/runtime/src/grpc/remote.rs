use std::error::Error;

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
        let code = ErrorCode::from_grpc(status.code().into());
        // A time-out of ours comes from the transport as well, hence the order.
        let code = if code != ErrorCode::DeadlineExceeded && broken(status) {
            ErrorCode::Unavailable
        } else {
            code
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

fn broken(status: &Status) -> bool {
    let source = status.source();
    status.code() == Code::Unknown
        || source.is_some_and(<dyn Error + 'static>::is::<tonic::transport::Error>)
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use portolan_kernel::Coded;

    use super::*;
    use crate::grpc::status;

    #[derive(Debug, thiserror::Error)]
    #[error("row 17 of table x is odd")]
    struct Sample(ErrorCode);

    impl Coded for Sample {
        fn code(&self) -> ErrorCode {
            self.0
        }

        fn reason(&self) -> &'static str {
            "user_busy"
        }

        fn public_message(&self) -> Cow<'static, str> {
            "Another request of yours is being handled.".into()
        }

        fn violations(&self) -> Vec<FieldViolation> {
            let (field, description) = ("lines[2].quantity".to_owned(), "too large".to_owned());
            vec![FieldViolation { field, description }]
        }

        fn retry_after_secs(&self) -> Option<u32> {
            Some(2)
        }
    }

    #[test]
    fn every_error_survives_the_way_through_a_status() {
        for code in ErrorCode::ALL {
            let error = Sample(code);
            let remote = Remote::from(status(&error));
            assert_eq!(remote.code, code);
            assert_eq!(remote.reason, error.reason());
            assert_eq!(remote.message, error.public_message());
            assert_eq!(remote.violations, error.violations());
            assert_eq!(remote.retry_after_secs, error.retry_after_secs());
        }
    }

    #[test]
    fn nothing_internal_is_in_the_status() {
        let status = status(&Sample(ErrorCode::Internal));
        let details = String::from_utf8_lossy(status.details());
        assert!(!status.message().contains("row 17") && !details.contains("row 17"));
    }

    #[test]
    fn an_error_of_nobody_gets_a_plain_reason() {
        let expected = [
            (Status::unavailable("connect to 10.0.0.1"), ErrorCode::Unavailable, "unavailable"),
            (Status::cancelled("Timeout"), ErrorCode::DeadlineExceeded, "deadline_exceeded"),
            (Status::deadline_exceeded(""), ErrorCode::DeadlineExceeded, "deadline_exceeded"),
            (Status::unknown("h2 protocol error"), ErrorCode::Unavailable, "unavailable"),
            (Status::internal("boom"), ErrorCode::Internal, "internal"),
            (Status::unimplemented(""), ErrorCode::Internal, "internal"),
        ];
        for (status, code, reason) in expected {
            let remote = Remote::from(status);
            assert_eq!((remote.code, remote.reason.as_str()), (code, reason));
            assert!(!remote.message.contains("10.0.0.1"));
        }
    }
}
