//! What the services' refusals mean over HTTP: the one table.

use http::StatusCode;
use portolan_kernel::{ErrorCode, FieldViolation};
use portolan_runtime::grpc::Remote;

use crate::problem::{FieldError, KINDS, Problem, kind};

impl From<Remote> for Problem {
    fn from(remote: Remote) -> Self {
        let Some(status) = status(&remote) else {
            tracing::error!(code = ?remote.code, reason = remote.reason, "a service failed");
            return Self::internal();
        };
        let problem = Self::foreign(code(remote.reason), status, remote.message);
        let problem = problem.with_errors(remote.violations.into_iter().map(field).collect());
        match remote.retry_after_secs {
            Some(seconds) => problem.with_retry_after(seconds),
            None => problem,
        }
    }
}

impl From<tonic::Status> for Problem {
    fn from(status: tonic::Status) -> Self {
        Remote::from(status).into()
    }
}

/// The services' general word for an unacceptable request is `invalid_argument`; ours is that of
/// the gateway's own checks, so that a client sees one.
fn code(reason: String) -> String {
    if reason == "invalid_argument" { kind::VALIDATION_FAILED.code.to_owned() } else { reason }
}

/// The reason decides where our list has it, else the class of failure. `None`: our fault.
fn status(remote: &Remote) -> Option<StatusCode> {
    let listed = KINDS.iter().find(|kind| kind.code == remote.reason).map(|kind| kind.status);
    let by_code = match remote.code {
        // The gateway has read the request: what is left is well-formed but not acceptable.
        ErrorCode::InvalidArgument => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists | ErrorCode::Aborted | ErrorCode::FailedPrecondition => {
            StatusCode::CONFLICT
        }
        ErrorCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // The services refuse the gateway itself: nothing its caller could mend.
        ErrorCode::Unauthenticated | ErrorCode::PermissionDenied | ErrorCode::Internal => {
            return None;
        }
    };
    Some(listed.unwrap_or(by_code))
}

fn field(violation: FieldViolation) -> FieldError {
    FieldError { field: violation.field, message: violation.description }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(code: ErrorCode, reason: &str) -> Remote {
        Remote {
            code,
            reason: reason.to_owned(),
            message: "a sentence".to_owned(),
            violations: Vec::new(),
            retry_after_secs: None,
        }
    }

    #[test]
    fn reasons_have_the_published_status() {
        let table = [
            (ErrorCode::InvalidArgument, "unknown_sku", 422),
            (ErrorCode::FailedPrecondition, "idempotency_key_reused", 422),
            (ErrorCode::AlreadyExists, "idempotency_key_reused", 422),
            (ErrorCode::FailedPrecondition, "mixed_currencies", 422),
            (ErrorCode::Aborted, "user_busy", 409),
            (ErrorCode::FailedPrecondition, "order_not_cancellable", 409),
            (ErrorCode::ResourceExhausted, "open_order_limit", 409),
            (ErrorCode::NotFound, "not_found", 404),
            (ErrorCode::Unavailable, "unavailable", 503),
            (ErrorCode::DeadlineExceeded, "deadline_exceeded", 504),
        ];
        for (code, reason, expected) in table {
            let problem = Problem::from(remote(code, reason));
            assert_eq!((problem.status.as_u16(), problem.code.as_ref()), (expected, reason));
            assert_eq!(problem.detail, "a sentence");
        }
    }

    #[test]
    fn what_a_service_finds_unacceptable_looks_like_what_the_gateway_does() {
        let mut refusal = remote(ErrorCode::InvalidArgument, "invalid_argument");
        let description = "is not a cursor".to_owned();
        refusal.violations = vec![FieldViolation { field: "cursor".to_owned(), description }];
        refusal.retry_after_secs = Some(7);
        let problem = Problem::from(refusal);
        assert_eq!((problem.status.as_u16(), problem.code.as_ref()), (422, "validation_failed"));
        assert_eq!(problem.errors[0].field, "cursor");
        let response = axum::response::IntoResponse::into_response(problem);
        assert_eq!(response.headers()["retry-after"], "7");
    }

    #[test]
    fn a_reason_that_is_new_keeps_its_name_and_gets_the_status_of_its_class() {
        for code in ErrorCode::ALL {
            let problem = Problem::from(remote(code, "never_heard_of"));
            let ours = matches!(
                code,
                ErrorCode::Internal | ErrorCode::Unauthenticated | ErrorCode::PermissionDenied
            );
            let expected = if ours { "internal" } else { "never_heard_of" };
            assert_eq!(problem.code, expected, "{code:?}");
            assert_eq!(problem.status.is_server_error(), ours || code.http() >= 500, "{code:?}");
        }
    }
}
