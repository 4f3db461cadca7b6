//! The state machine of one order's reservation. Every pair of state and event is decided.

use std::str::FromStr;

/// Where a reservation stands. An order that was never seen here has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Every line is set aside.
    Reserved,
    /// There was not enough of something; nothing was set aside.
    Rejected,
    /// The goods left the stock.
    Committed,
    /// Undone, or cancelled before it was ever done (a tombstone).
    Released {
        /// The goods had left the stock before: their order was confirmed.
        was_committed: bool,
    },
}

/// What the order service decided about the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The order exists and wants its stock.
    Placed,
    /// Decided in favour.
    Confirmed,
    /// Decided against, or the capture failed.
    Cancelled,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Set every line aside, or reject the order as a whole.
    Reserve,
    /// The reserved goods leave the stock.
    Commit,
    /// The reserved goods become available again.
    Release,
    /// The goods that had left come back: the money could not be captured.
    Restock,
    /// Remember the cancellation so that the late `placed` does nothing.
    Tombstone,
    /// Nothing.
    Ignore(Ignored),
    /// Cannot happen while everybody keeps the rules: to the dead letters.
    Impossible,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It was done already.
    Duplicate,
    /// The undo came before the do.
    AlreadyUndone,
    /// Nothing had been set aside.
    NothingToUndo,
}

/// Decides what an event does to a reservation.
pub const fn decide(state: Option<State>, event: Event) -> Decision {
    use Decision::{Commit, Ignore, Impossible, Release, Reserve, Restock, Tombstone};
    use Ignored::{AlreadyUndone, Duplicate, NothingToUndo};

    match (state, event) {
        (None, Event::Placed) => Reserve,
        (None, Event::Cancelled) => Tombstone,
        (Some(State::Reserved), Event::Confirmed) => Commit,
        (Some(State::Reserved), Event::Cancelled) => Release,
        (Some(State::Committed), Event::Cancelled) => Restock,

        (Some(State::Reserved | State::Rejected | State::Committed), Event::Placed)
        | (Some(State::Committed | State::Released { was_committed: true }), Event::Confirmed)
        | (Some(State::Released { .. }), Event::Cancelled) => Ignore(Duplicate),
        (Some(State::Released { .. }), Event::Placed) => Ignore(AlreadyUndone),
        (Some(State::Rejected), Event::Cancelled) => Ignore(NothingToUndo),

        (
            None | Some(State::Rejected | State::Released { was_committed: false }),
            Event::Confirmed,
        ) => Impossible,
    }
}

impl State {
    /// The name in the database and in the logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "RESERVED",
            Self::Rejected => "REJECTED",
            Self::Committed => "COMMITTED",
            Self::Released { .. } => "RELEASED",
        }
    }

    /// Whether the goods left the stock at some time.
    pub const fn was_committed(self) -> bool {
        match self {
            Self::Committed | Self::Released { was_committed: true } => true,
            Self::Reserved | Self::Rejected | Self::Released { was_committed: false } => false,
        }
    }

    /// The state with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(name: &str, was_committed: bool) -> Result<Self, UnknownState> {
        match name {
            "RELEASED" => Ok(Self::Released { was_committed }),
            other => other.parse(),
        }
    }
}

/// The database holds a state that this binary does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown reservation state")]
pub struct UnknownState;

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        match name {
            "RESERVED" => Ok(Self::Reserved),
            "REJECTED" => Ok(Self::Rejected),
            "COMMITTED" => Ok(Self::Committed),
            _ => Err(UnknownState),
        }
    }
}

impl Event {
    /// The name in the logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "order.placed",
            Self::Confirmed => "order.confirmed",
            Self::Cancelled => "order.cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_decided_as_the_table_says() {
        use Decision::{Commit, Ignore, Impossible, Release, Reserve, Restock, Tombstone};
        use Ignored::{AlreadyUndone, Duplicate, NothingToUndo};
        const AFTER_COMMIT: State = State::Released { was_committed: true };
        const BEFORE_COMMIT: State = State::Released { was_committed: false };

        let table = [
            // state, placed, confirmed, cancelled
            (None, Reserve, Impossible, Tombstone),
            (Some(State::Reserved), Ignore(Duplicate), Commit, Release),
            (Some(State::Rejected), Ignore(Duplicate), Impossible, Ignore(NothingToUndo)),
            (Some(State::Committed), Ignore(Duplicate), Ignore(Duplicate), Restock),
            (Some(AFTER_COMMIT), Ignore(AlreadyUndone), Ignore(Duplicate), Ignore(Duplicate)),
            (Some(BEFORE_COMMIT), Ignore(AlreadyUndone), Impossible, Ignore(Duplicate)),
        ];
        for (state, placed, confirmed, cancelled) in table {
            assert_eq!(decide(state, Event::Placed), placed, "{state:?} placed");
            assert_eq!(decide(state, Event::Confirmed), confirmed, "{state:?} confirmed");
            assert_eq!(decide(state, Event::Cancelled), cancelled, "{state:?} cancelled");
        }
    }

    #[test]
    fn every_state_survives_its_database_form() {
        for state in [
            State::Reserved,
            State::Rejected,
            State::Committed,
            State::Released { was_committed: true },
            State::Released { was_committed: false },
        ] {
            assert_eq!(State::parse(state.as_str(), state.was_committed()), Ok(state));
        }
        assert_eq!(State::parse("SOLD", false), Err(UnknownState));
    }
}
