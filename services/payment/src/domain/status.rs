use std::{fmt, str::FromStr};

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The provider is to be asked to authorise.
    Authorizing,
    /// The provider holds the amount; the order decides.
    Authorized,
    /// Final: the provider refused to authorise.
    Declined,
    /// The order is confirmed; the provider is to be asked to capture.
    Capturing,
    /// Final: the money is ours.
    Captured,
    /// The provider refused to capture, for ever. The order's cancellation follows.
    CaptureFailed,
    /// The order is cancelled; the provider is to be asked to void.
    Voiding,
    /// Final: the provider holds nothing, and never will.
    Voided,
    /// Final: cancelled before the provider ever heard of it.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 9] = [
        Self::Authorizing,
        Self::Authorized,
        Self::Declined,
        Self::Capturing,
        Self::Captured,
        Self::CaptureFailed,
        Self::Voiding,
        Self::Voided,
        Self::Cancelled,
    ];

    /// The name in the database and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorizing => "AUTHORIZING",
            Self::Authorized => "AUTHORIZED",
            Self::Declined => "DECLINED",
            Self::Capturing => "CAPTURING",
            Self::Captured => "CAPTURED",
            Self::CaptureFailed => "CAPTURE_FAILED",
            Self::Voiding => "VOIDING",
            Self::Voided => "VOIDED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the status of a payment")]
pub struct UnknownStatus(pub String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}
