use std::{borrow::Cow, fmt};

/// The one vocabulary of failures, for gRPC and HTTP alike: what the reader of the code will do
/// about it decides which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is wrong whatever the state of the system.
    InvalidArgument,
    /// No valid credentials.
    Unauthenticated,
    /// Valid credentials that do not suffice.
    PermissionDenied,
    /// No such thing, or not the caller's.
    NotFound,
    /// The thing exists with other contents.
    AlreadyExists,
    /// Somebody else was faster: retry the whole operation.
    Aborted,
    /// The state of the system forbids it: retrying does not help.
    FailedPrecondition,
    /// A quota is used up.
    ResourceExhausted,
    /// It took too long; whether it happened is unknown.
    DeadlineExceeded,
    /// Try again later; whether it happened may be unknown.
    Unavailable,
    /// Our fault.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Aborted,
        Self::FailedPrecondition,
        Self::ResourceExhausted,
        Self::DeadlineExceeded,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The number of the gRPC status code.
    pub const fn grpc(self) -> i32 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// The HTTP status. 422 rather than 400 for what is well-formed but unacceptable is the
    /// gateway's choice, made by reason.
    pub const fn http(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted | Self::FailedPrecondition => 409,
            Self::ResourceExhausted => 429,
            Self::DeadlineExceeded => 504,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// Whether the same request may succeed later. Safe only with the same idempotency key.
    pub const fn retryable(self) -> bool {
        match self {
            Self::Aborted
            | Self::ResourceExhausted
            | Self::DeadlineExceeded
            | Self::Unavailable => true,
            Self::InvalidArgument
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::NotFound
            | Self::AlreadyExists
            | Self::FailedPrecondition
            | Self::Internal => false,
        }
    }

    /// The code of a gRPC status number; everything outside our vocabulary is our fault.
    pub const fn from_grpc(number: i32) -> Self {
        match number {
            3 | 11 => Self::InvalidArgument,
            1 | 4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            14 => Self::Unavailable,
            16 => Self::Unauthenticated,
            _ => Self::Internal,
        }
    }
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field, for instance `lines[2].quantity`.
    pub field: String,
    /// What is wrong with it, for the caller to read.
    pub description: String,
}

/// An error that knows what the caller may see of it. `Display` is for our logs.
pub trait Coded: fmt::Display {
    /// The class of failure.
    fn code(&self) -> ErrorCode;

    /// A stable `snake_case` name, part of the API contract, for instance `user_busy`.
    fn reason(&self) -> &'static str;

    /// A sentence for the caller: nothing internal.
    fn public_message(&self) -> Cow<'static, str>;

    /// The fields at fault, if the request is.
    fn violations(&self) -> Vec<FieldViolation> {
        Vec::new()
    }

    /// When it makes sense to try again, in seconds.
    fn retry_after_secs(&self) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_over_grpc() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_grpc(code.grpc()), code);
        }
    }

    #[test]
    fn only_our_own_faults_are_server_errors() {
        for code in ErrorCode::ALL {
            let ours = matches!(
                code,
                ErrorCode::Internal | ErrorCode::Unavailable | ErrorCode::DeadlineExceeded
            );
            assert_eq!(code.http() >= 500, ours, "{code:?}");
        }
    }
}
