//! Folds a batch of orders' events over the reservations and the shelves, in memory: the caller
//! has locked the rows, and writes back what changed.

use std::collections::BTreeMap;

use portolan_kernel::OrderId;

use super::{Decision, Entry, Event, Ignored, Levels, Line, Sku, State, decide};

/// What an order's event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderEvent {
    /// Reserve these lines, each SKU once.
    Placed(Vec<Line>),
    /// Commit.
    Confirmed,
    /// Undo.
    Cancelled,
}

impl OrderEvent {
    /// Which event it is.
    pub const fn event(&self) -> Event {
        match self {
            Self::Placed(_) => Event::Placed,
            Self::Confirmed => Event::Confirmed,
            Self::Cancelled => Event::Cancelled,
        }
    }
}

/// An order's reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Where it stands.
    pub state: State,
    /// How often it changed.
    pub version: i64,
    /// What was set aside; empty when nothing ever was.
    pub lines: Vec<Line>,
    /// Of what there was not enough, if it was rejected.
    pub missing: Option<Sku>,
}

/// An order as the batch sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The version in the database; `None` for a reservation that is not stored yet.
    pub stored: Option<i64>,
    /// The reservation now.
    pub reservation: Reservation,
}

/// A change that others are told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Every line is set aside.
    Reserved,
    /// There was not enough of this SKU.
    Rejected(Sku),
    /// The goods left.
    Committed,
    /// The goods are back.
    Released,
}

/// What an event did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It changed the reservation to this version.
    Changed(Effect, i64),
    /// It is remembered, and nobody is told.
    Tombstone,
    /// Nothing.
    Ignored(Ignored),
}

/// The event cannot have happened to an order in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} in state {}", event.as_str(), state.map_or("NONE", State::as_str))]
pub struct Impossible {
    /// The reservation's state, if there is a reservation.
    pub state: Option<State>,
    /// The event.
    pub event: Event,
}

/// Reservations, shelves and ledger of one batch.
#[derive(Clone, Debug, Default)]
pub struct Books {
    orders: BTreeMap<OrderId, Order>,
    levels: Levels,
    entries: Vec<Entry>,
}

impl Books {
    /// Opens the books with what is stored.
    pub fn new(
        reservations: impl IntoIterator<Item = (OrderId, Reservation)>,
        levels: Levels,
    ) -> Self {
        let open = |(id, reservation): (OrderId, Reservation)| {
            (id, Order { stored: Some(reservation.version), reservation })
        };
        Self { orders: reservations.into_iter().map(open).collect(), levels, entries: Vec::new() }
    }

    /// The shelves.
    pub const fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The ledger entries that the batch made.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The reservation of an order.
    pub fn reservation(&self, id: OrderId) -> Option<&Reservation> {
        self.orders.get(&id).map(|order| &order.reservation)
    }

    /// The orders that are no longer as they were stored, by id.
    pub fn changed(&self) -> impl Iterator<Item = (OrderId, &Order)> {
        self.orders
            .iter()
            .filter(|(_, order)| order.stored != Some(order.reservation.version))
            .map(|(id, order)| (*id, order))
    }

    /// Applies one event.
    ///
    /// # Errors
    /// [`Impossible`]; nothing has changed then.
    pub fn apply(&mut self, id: OrderId, event: &OrderEvent) -> Result<Outcome, Impossible> {
        let state = self.orders.get(&id).map(|order| order.reservation.state);
        match decide(state, event.event()) {
            Decision::Reserve => {
                let lines = match event {
                    OrderEvent::Placed(lines) => lines.as_slice(),
                    OrderEvent::Confirmed | OrderEvent::Cancelled => &[],
                };
                Ok(self.reserve(id, lines))
            }
            Decision::Commit => {
                Ok(self.advance(id, State::Committed, Effect::Committed, Levels::commit))
            }
            Decision::Release => {
                let released = State::Released { was_committed: false };
                Ok(self.advance(id, released, Effect::Released, Levels::release))
            }
            Decision::Restock => {
                let released = State::Released { was_committed: true };
                Ok(self.advance(id, released, Effect::Released, Levels::restock))
            }
            Decision::Tombstone => {
                self.open(id, State::Released { was_committed: false }, &[], None);
                Ok(Outcome::Tombstone)
            }
            Decision::Ignore(why) => Ok(Outcome::Ignored(why)),
            Decision::Impossible => Err(Impossible { state, event: event.event() }),
        }
    }

    fn reserve(&mut self, id: OrderId, lines: &[Line]) -> Outcome {
        match self.levels.reserve(id.0, lines) {
            Ok(entries) => {
                self.entries.extend(entries);
                self.open(id, State::Reserved, lines, None);
                Outcome::Changed(Effect::Reserved, 1)
            }
            Err(missing) => {
                self.open(id, State::Rejected, &[], Some(missing.clone()));
                Outcome::Changed(Effect::Rejected(missing), 1)
            }
        }
    }

    fn open(&mut self, id: OrderId, state: State, lines: &[Line], missing: Option<Sku>) {
        let reservation = Reservation { state, version: 1, lines: lines.to_vec(), missing };
        self.orders.insert(id, Order { stored: None, reservation });
    }

    fn advance(
        &mut self,
        id: OrderId,
        state: State,
        effect: Effect,
        change: impl Fn(&mut Levels, uuid::Uuid, &[Line]) -> Vec<Entry>,
    ) -> Outcome {
        let Some(Order { reservation, .. }) = self.orders.get_mut(&id) else {
            return Outcome::Ignored(Ignored::NothingToUndo);
        };
        self.entries.extend(change(&mut self.levels, id.0, &reservation.lines));
        reservation.state = state;
        reservation.version += 1;
        Outcome::Changed(effect, reservation.version)
    }
}

#[cfg(test)]
mod tests;
