//! What the provider decides: pure.

use super::Card;

/// Where an authorisation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthorizationStatus {
    /// The amount is held.
    Open,
    /// The amount was taken.
    Captured,
    /// The amount was let go of.
    Voided,
    /// It was never held.
    Declined,
    /// It was voided before it existed.
    Tombstone,
}

impl AuthorizationStatus {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Declined => "declined",
            Self::Tombstone => "tombstone",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Captured, Self::Voided, Self::Declined, Self::Tombstone]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Approved,
    Declined,
    Captured,
    Voided,
    NothingToVoid,
    Refused,
    Refunded,
}

impl Outcome {
    /// The name in the database and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined => "declined",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::NothingToVoid => "nothing_to_void",
            Self::Refused => "refused",
            Self::Refunded => "refunded",
        }
    }
}

/// A decision: what is answered, and where the authorisation stands afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What came of it.
    pub outcome: Outcome,
    /// Why, if it was declined or refused.
    pub code: Option<&'static str>,
    /// The authorisation's status from now on.
    pub status: AuthorizationStatus,
}

const fn rule(outcome: Outcome, status: AuthorizationStatus) -> Ruling {
    Ruling { outcome, code: None, status }
}

const fn refuse(code: &'static str, status: AuthorizationStatus) -> Ruling {
    Ruling { outcome: Outcome::Refused, code: Some(code), status }
}

/// Rules on an authorisation. `before` is none if its key was never seen.
pub const fn authorize(before: Option<AuthorizationStatus>, card: Card) -> Ruling {
    use AuthorizationStatus as S;
    match (before, card.decline_code()) {
        (None, None) => rule(Outcome::Approved, S::Open),
        (None, Some(code)) => {
            Ruling { outcome: Outcome::Declined, code: Some(code), status: S::Declined }
        }
        (Some(status @ (S::Tombstone | S::Voided)), _) => refuse("authorization_voided", status),
        (Some(status @ (S::Open | S::Captured | S::Declined)), _) => {
            refuse("authorization_exists", status)
        }
    }
}

/// Rules on a capture. `refused` is the card's behaviour.
pub const fn capture(before: AuthorizationStatus, refused: bool) -> Ruling {
    use AuthorizationStatus as S;
    match before {
        S::Open if refused => refuse("authorization_expired", S::Open),
        S::Open => rule(Outcome::Captured, S::Captured),
        S::Captured => refuse("already_captured", before),
        S::Voided | S::Tombstone => refuse("authorization_voided", before),
        S::Declined => refuse("authorization_declined", before),
    }
}

/// Rules on a void. `before` is none if the authorisation's key was never seen.
pub const fn void(before: Option<AuthorizationStatus>) -> Ruling {
    use AuthorizationStatus as S;
    match before {
        None => rule(Outcome::NothingToVoid, S::Tombstone),
        Some(S::Open) => rule(Outcome::Voided, S::Voided),
        Some(S::Captured) => refuse("already_captured", S::Captured),
        Some(status @ (S::Voided | S::Declined | S::Tombstone)) => {
            rule(Outcome::NothingToVoid, status)
        }
    }
}

/// Rules on a refund of `amount` minor units when `refunded` of `captured` were paid back before.
pub(super) const fn refund(captured: i64, refunded: i64, amount: i64) -> Ruling {
    if amount > captured.saturating_sub(refunded) {
        refuse("refund_exceeds_capture", AuthorizationStatus::Captured)
    } else {
        rule(Outcome::Refunded, AuthorizationStatus::Captured)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Request {
        Authorize,
        Capture,
        Void,
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![Just(Request::Authorize), Just(Request::Capture), Just(Request::Void)]
    }

    proptest! {
        /// Whatever order requests come in, with keys of their own.
        #[test]
        fn money_is_taken_at_most_once_and_never_after_a_void(
            requests in proptest::collection::vec(request(), 0..12),
            refused: bool,
        ) {
            let card = if refused { Card::CaptureFails } else { Card::Good };
            let (mut status, mut captured, mut voided) = (None, 0, false);
            for request in requests {
                let ruling = match (request, status) {
                    (Request::Authorize, _) => authorize(status, card),
                    (Request::Void, _) => void(status),
                    (Request::Capture, Some(before)) => capture(before, refused),
                    (Request::Capture, None) => continue,
                };
                status = Some(ruling.status);
                match ruling.outcome {
                    Outcome::Captured => {
                        prop_assert!(!voided && !refused);
                        captured += 1;
                    }
                    Outcome::Voided | Outcome::NothingToVoid => {
                        prop_assert_eq!(captured, 0);
                        voided = true;
                    }
                    Outcome::Approved => prop_assert!(!voided),
                    Outcome::Declined | Outcome::Refused | Outcome::Refunded => {}
                }
            }
            prop_assert!(captured <= 1);
        }
    }

    #[test]
    fn no_more_is_paid_back_than_was_taken() {
        assert_eq!(refund(100, 0, 100).outcome, Outcome::Refunded);
        assert_eq!(refund(100, 60, 41).code, Some("refund_exceeds_capture"));
        assert_eq!(refund(100, 60, 40).outcome, Outcome::Refunded);
    }
}
