use std::{borrow::Cow, time::Duration};

use portolan_kernel::{Coded, ErrorCode};

/// Why a call was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The service has failed too often.
    #[error("the breaker towards {service} is open")]
    Open {
        service: &'static str,
        /// When another call may find out that it is back.
        retry_in: Duration,
    },
    /// The service has enough to do.
    #[error("as many calls to {service} as may be are under way")]
    Full { service: &'static str },
}

impl Coded for Refusal {
    fn code(&self) -> ErrorCode {
        ErrorCode::Unavailable
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Open { .. } => "unavailable",
            Self::Full { .. } => "overloaded",
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Open { .. } => "This cannot be answered at present: come back in a moment.",
            Self::Full { .. } => "Too many requests at once: come back in a moment.",
        })
    }

    /// Whole seconds, of which there is at least one.
    fn retry_after_secs(&self) -> Option<u32> {
        let pause = match self {
            Self::Open { retry_in, .. } => *retry_in,
            Self::Full { .. } => Duration::ZERO,
        };
        let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1))
    }
}
