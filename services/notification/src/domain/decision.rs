use std::str::FromStr;

/// What a customer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The order is completed.
    Confirmed,
    /// The order is cancelled.
    Cancelled,
}

impl Kind {
    /// The name in the database and in the message's id.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The database holds a kind that this binary does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of notification")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        match name {
            "confirmed" => Ok(Self::Confirmed),
            "cancelled" => Ok(Self::Cancelled),
            _ => Err(UnknownKind),
        }
    }
}

/// What to do about an order's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Tell the customer.
    Create,
    /// Nothing: the customer is or will be told.
    Duplicate,
    /// The order has ended differently before. Cannot happen while everybody keeps the rules: to
    /// the dead letters.
    Impossible,
}

/// Decides what an order's end asks for: a completed order wants [`Kind::Confirmed`], a cancelled
/// one [`Kind::Cancelled`], and one order never gets both.
pub const fn decide(existing: Option<Kind>, wanted: Kind) -> Decision {
    match (existing, wanted) {
        (None, Kind::Confirmed | Kind::Cancelled) => Decision::Create,
        (Some(Kind::Confirmed), Kind::Confirmed) | (Some(Kind::Cancelled), Kind::Cancelled) => {
            Decision::Duplicate
        }
        (Some(Kind::Confirmed), Kind::Cancelled) | (Some(Kind::Cancelled), Kind::Confirmed) => {
            Decision::Impossible
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_told_and_wanted_is_decided() {
        use Decision::{Create, Duplicate, Impossible};
        let table = [
            // told before, completed, cancelled
            (None, Create, Create),
            (Some(Kind::Confirmed), Duplicate, Impossible),
            (Some(Kind::Cancelled), Impossible, Duplicate),
        ];
        for (existing, completed, cancelled) in table {
            assert_eq!(decide(existing, Kind::Confirmed), completed, "{existing:?} completed");
            assert_eq!(decide(existing, Kind::Cancelled), cancelled, "{existing:?} cancelled");
        }
    }

    #[test]
    fn a_kind_survives_its_database_form() {
        for kind in [Kind::Confirmed, Kind::Cancelled] {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("refunded".parse::<Kind>(), Err(UnknownKind));
    }
}
