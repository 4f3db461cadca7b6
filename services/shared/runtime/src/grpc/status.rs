use std::{collections::HashMap, error::Error, time::Duration};

use portolan_kernel::{Coded, ErrorCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::ERROR_DOMAIN;

/// A status travels in HTTP/2 headers, and clients refuse more than 16 KiB of them.
const MAX_VIOLATIONS: usize = 50;
const MAX_MESSAGE: usize = 1_024;

/// What the caller sees of an error: code, public sentence, and as details `ErrorInfo` with the
/// reason, `BadRequest` with the violations and `RetryInfo` (`google/rpc/error_details.proto`).
/// Errors that are our fault are logged here with all their causes, and nowhere else.
pub fn status<E: Coded + Error + 'static>(error: &E) -> Status {
    let (code, reason) = (error.code(), error.reason());
    let causes = crate::one_line(error);
    if code == ErrorCode::Internal {
        tracing::error!(reason, error = causes, "request failed");
    } else {
        tracing::debug!(reason, error = causes, "request refused");
    }
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    for violation in error.violations().into_iter().take(MAX_VIOLATIONS) {
        details.add_bad_request_violation(violation.field, violation.description);
    }
    if let Some(seconds) = error.retry_after_secs() {
        details.set_retry_info(Some(Duration::from_secs(seconds.into())));
    }
    let code = Code::from(code.grpc());
    let message: String = error.public_message().chars().take(MAX_MESSAGE).collect();
    Status::with_error_details(code, message, details)
}
