//! The state machine: every pair of status and event is decided here, and nowhere else.

use super::Status;

/// What can happen to a payment: an event of another service, or the provider's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Inventory set the goods aside: the payment may begin.
    Reserved,
    /// The provider holds the amount.
    Approve,
    /// The provider refused to authorise.
    Decline,
    /// The provider did not answer, or not understandably: it may or may not have done it.
    Unknown,
    /// The provider captured.
    Captured,
    /// The provider refused to capture, for ever.
    CaptureRefused,
    /// The provider let go of the amount.
    Voided,
    /// There was nothing to let go of, and later authorisations with the key are refused.
    NothingToVoid,
    /// The provider refused to void, which it does only after a capture.
    VoidRefused,
    /// The order was confirmed.
    Confirmed,
    /// The order was cancelled.
    Cancelled,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 11] = [
        Self::Reserved,
        Self::Approve,
        Self::Decline,
        Self::Unknown,
        Self::Captured,
        Self::CaptureRefused,
        Self::Voided,
        Self::NothingToVoid,
        Self::VoidRefused,
        Self::Confirmed,
        Self::Cancelled,
    ];

    /// The name in metrics, logs and dead letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Approve => "approve",
            Self::Decline => "decline",
            Self::Unknown => "unknown",
            Self::Captured => "captured",
            Self::CaptureRefused => "capture_refused",
            Self::Voided => "voided",
            Self::NothingToVoid => "nothing_to_void",
            Self::VoidRefused => "void_refused",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// All that a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The status; none before the first event.
    pub status: Option<Status>,
    /// Whether the provider was called, or is being called, for the present step.
    pub attempted: bool,
    /// Whether the order's confirmation was heard, which a payment that is void after a failed
    /// capture looks back on.
    pub confirmed: bool,
}

/// A row of the money ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ledger {
    Auth,
    Capture,
    Void,
}

impl Ledger {
    /// The kind in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Capture => "capture",
            Self::Void => "void",
        }
    }
}

/// A change of status and what it entails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new status.
    pub to: Status,
    /// Whether the others are told. Only changes that the provider made are told: that the service
    /// intends something concerns nobody else.
    pub tell: bool,
    /// What moved.
    pub ledger: Option<Ledger>,
}

/// What an event does to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It changes the status.
    Change(Change),
    /// It changes nothing; the provider is asked again later.
    Retry,
    /// It changes nothing: a duplicate, or late.
    Ignore,
    /// It contradicts what is known. Nothing is changed and somebody must look.
    Impossible,
}

/// An event that contradicts the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot happen to a payment that is {}", event.as_str(), status.map_or("NONE", Status::as_str))]
pub struct Impossible {
    /// The status; none if there was no payment.
    pub status: Option<Status>,
    /// The event.
    pub event: Event,
}

const fn intend(to: Status) -> Decision {
    Decision::Change(Change { to, tell: false, ledger: None })
}

const fn tell(to: Status, ledger: Option<Ledger>) -> Decision {
    Decision::Change(Change { to, tell: true, ledger })
}

/// Decides. One function for each status, so that a row of the table can be read at once.
pub const fn decide(at: Position, event: Event) -> Decision {
    match at.status {
        None => none(event),
        Some(Status::Authorizing) => authorizing(event, at.attempted),
        Some(Status::Authorized) => authorized(event),
        Some(Status::Declined) => declined(event),
        Some(Status::Capturing) => capturing(event),
        Some(Status::Captured) => captured(event),
        Some(Status::CaptureFailed) => capture_failed(event),
        Some(Status::Voiding) => voiding(event, at.confirmed),
        Some(Status::Voided) => voided(event, at.confirmed),
        Some(Status::Cancelled) => cancelled(event),
    }
}

const fn none(event: Event) -> Decision {
    match event {
        Event::Reserved => intend(Status::Authorizing),
        // The undo came before its do: remember it, so that the reservation finds it.
        Event::Cancelled => intend(Status::Cancelled),
        Event::Approve
        | Event::Decline
        | Event::Unknown
        | Event::Captured
        | Event::CaptureRefused
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused
        | Event::Confirmed => Decision::Impossible,
    }
}

const fn authorizing(event: Event, attempted: bool) -> Decision {
    match event {
        Event::Approve => tell(Status::Authorized, Some(Ledger::Auth)),
        Event::Decline => tell(Status::Declined, None),
        Event::Unknown => Decision::Retry,
        // A call that was made, or is being made, may succeed later: only a void ends that.
        Event::Cancelled if attempted => intend(Status::Voiding),
        Event::Cancelled => intend(Status::Cancelled),
        Event::Reserved => Decision::Ignore,
        Event::Captured
        | Event::CaptureRefused
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused
        | Event::Confirmed => Decision::Impossible,
    }
}

const fn authorized(event: Event) -> Decision {
    match event {
        Event::Confirmed => intend(Status::Capturing),
        Event::Cancelled => intend(Status::Voiding),
        Event::Reserved | Event::Approve | Event::Unknown => Decision::Ignore,
        Event::Decline
        | Event::Captured
        | Event::CaptureRefused
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused => Decision::Impossible,
    }
}

const fn declined(event: Event) -> Decision {
    match event {
        Event::Reserved | Event::Decline | Event::Unknown | Event::Cancelled => Decision::Ignore,
        // The provider repeats its first answer to a key for ever.
        Event::Approve
        | Event::Captured
        | Event::CaptureRefused
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused
        | Event::Confirmed => Decision::Impossible,
    }
}

const fn capturing(event: Event) -> Decision {
    match event {
        Event::Captured => tell(Status::Captured, Some(Ledger::Capture)),
        Event::CaptureRefused => tell(Status::CaptureFailed, None),
        Event::Unknown => Decision::Retry,
        Event::Reserved | Event::Approve | Event::Confirmed => Decision::Ignore,
        // A confirmed order is cancelled only after this service said that capturing failed.
        Event::Cancelled
        | Event::Decline
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused => Decision::Impossible,
    }
}

const fn captured(event: Event) -> Decision {
    match event {
        Event::Reserved | Event::Approve | Event::Unknown | Event::Captured | Event::Confirmed => {
            Decision::Ignore
        }
        Event::Decline
        | Event::CaptureRefused
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused
        | Event::Cancelled => Decision::Impossible,
    }
}

const fn capture_failed(event: Event) -> Decision {
    match event {
        Event::Cancelled => intend(Status::Voiding),
        Event::Reserved
        | Event::Approve
        | Event::Unknown
        | Event::CaptureRefused
        | Event::Confirmed => Decision::Ignore,
        Event::Decline
        | Event::Captured
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused => Decision::Impossible,
    }
}

const fn voiding(event: Event, confirmed: bool) -> Decision {
    match event {
        Event::Voided => tell(Status::Voided, Some(Ledger::Void)),
        Event::NothingToVoid => tell(Status::Voided, None),
        Event::Unknown => Decision::Retry,
        // Late answers of the authorisation, whichever it was: the void ends it, and they mean as
        // little now as they will when it is done.
        Event::Reserved
        | Event::Approve
        | Event::Decline
        | Event::Cancelled
        | Event::Confirmed
        | Event::CaptureRefused
        | Event::Captured
        | Event::VoidRefused => voided(event, confirmed),
    }
}

const fn voided(event: Event, confirmed: bool) -> Decision {
    match event {
        Event::Reserved
        | Event::Approve
        | Event::Decline
        | Event::Unknown
        | Event::Voided
        | Event::NothingToVoid
        | Event::Cancelled => Decision::Ignore,
        Event::Confirmed | Event::CaptureRefused if confirmed => Decision::Ignore,
        Event::Confirmed | Event::CaptureRefused | Event::Captured | Event::VoidRefused => {
            Decision::Impossible
        }
    }
}

const fn cancelled(event: Event) -> Decision {
    match event {
        Event::Reserved | Event::Cancelled => Decision::Ignore,
        // The provider was never called.
        Event::Approve
        | Event::Decline
        | Event::Unknown
        | Event::Captured
        | Event::CaptureRefused
        | Event::Voided
        | Event::NothingToVoid
        | Event::VoidRefused
        | Event::Confirmed => Decision::Impossible,
    }
}

#[cfg(test)]
mod tests;
