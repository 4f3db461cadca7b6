use std::borrow::Cow;

use portolan_auth::{Identity, Role};
use portolan_kernel::{Coded, ErrorCode};
use portolan_runtime::grpc::status;
use tonic::{Request, Status};

/// Why nobody is served. The gateway never asks so.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the call does not say on whose behalf it is made")]
    Nobody,
    #[error("somebody asks about another customer")]
    Another,
}

impl Coded for Refusal {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Nobody => ErrorCode::Unauthenticated,
            Self::Another => ErrorCode::PermissionDenied,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Nobody => "unauthenticated",
            Self::Another => "forbidden",
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        match self {
            Self::Nobody => "The call does not say on whose behalf it is made.",
            Self::Another => "Customers ask about themselves, operators about anybody's orders.",
        }
        .into()
    }
}

/// What is asked, if it is about whoever asks. `whose` says whom the message names.
///
/// # Errors
/// `UNAUTHENTICATED` without an identity, `PERMISSION_DENIED` about another customer.
pub(super) fn own<T>(request: Request<T>, whose: fn(&T) -> &str) -> Result<T, Status> {
    asked(request, |message, asker| whose(message) == asker.subject())
}

/// The same, or it is about nobody in particular and an operator asks.
pub(super) fn own_or_any<T>(request: Request<T>, whose: fn(&T) -> &str) -> Result<T, Status> {
    asked(request, |message, asker| match whose(message) {
        "" => asker.has(Role::Operator),
        user => user == asker.subject(),
    })
}

fn asked<T>(request: Request<T>, may: impl FnOnce(&T, &Identity) -> bool) -> Result<T, Status> {
    let asker = Identity::read(request.metadata().as_ref());
    let message = request.into_inner();
    match asker {
        Some(asker) if may(&message, &asker) => Ok(message),
        Some(_) => Err(status(&Refusal::Another)),
        None => Err(status(&Refusal::Nobody)),
    }
}
