use portolan_kernel::OrderId;

use super::Status;

/// What the provider is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Hold the amount on the card.
    Authorize,
    /// Take the held amount.
    Capture,
    /// Let go of the held amount, or refuse a hold that comes later.
    Void,
}

impl Step {
    /// The step that a payment of this status waits for; none if it waits for the order, or for
    /// nothing.
    pub const fn of(status: Status) -> Option<Self> {
        match status {
            Status::Authorizing => Some(Self::Authorize),
            Status::Capturing => Some(Self::Capture),
            Status::Voiding => Some(Self::Void),
            Status::Authorized
            | Status::Declined
            | Status::Captured
            | Status::CaptureFailed
            | Status::Voided
            | Status::Cancelled => None,
        }
    }

    /// The idempotency key of the step for an order. Deterministic, so that every repetition by
    /// every replica is the same request to the provider.
    pub fn key(self, order: OrderId) -> String {
        match self {
            Self::Authorize => format!("auth:{order}"),
            Self::Capture => format!("cap:{order}"),
            Self::Void => format!("void:{order}"),
        }
    }

    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
        }
    }
}
