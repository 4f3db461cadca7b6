//! Orders, the shelf they share, and everything that may happen to them.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use portolan_inventory::domain::{
    self as inventory, Books, Effect, Level, Levels, Line, OrderEvent, Outcome, Reservation, Sku,
};
use portolan_kernel::OrderId;
use portolan_notification::domain::Kind;
use portolan_order::domain::Event;
use portolan_payment::domain::{Answer, Fact, Step};

use crate::{
    Violation,
    channel::{Group, Message, SUBSCRIPTIONS, Topic},
    saga::{Saga, intent},
};

/// What each order wants of the only product.
pub(crate) const QUANTITY: u32 = 1;

/// What may happen. Orders, subscriptions, records and calls go by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A group reads the next record.
    Deliver { order: usize, subscription: usize },
    /// A group reads a record again that it has read before.
    Redeliver { order: usize, subscription: usize, record: usize },
    /// The deadline passes.
    Sweep { order: usize },
    /// The customer cancels.
    Cancel { order: usize },
    /// The worker calls the provider.
    Call { order: usize, step: Step },
    /// A request reaches the provider.
    Arrive { order: usize, flight: usize },
    /// Its answer is heard.
    Answer { order: usize, flight: usize },
    /// The worker gives up waiting, and writes that down.
    TimeOut { order: usize, flight: usize },
    /// The worker dies while it waits.
    Crash { order: usize, flight: usize },
}

/// Everything.
#[derive(Clone, Debug)]
pub struct World {
    pub orders: Vec<Saga>,
    pub(crate) sku: Sku,
    pub(crate) opening: i64,
    pub(crate) level: Level,
    /// What the ledger says has changed since the opening.
    pub(crate) booked: Level,
    pub(crate) reservations: BTreeMap<OrderId, Reservation>,
}

impl World {
    /// Orders for one piece each of a product of which there are `stock`.
    pub fn new(sku: Sku, stock: i64, orders: Vec<Saga>) -> Self {
        let level = Level { available: stock, reserved: 0 };
        let (booked, reservations) = (Level::default(), BTreeMap::new());
        let mut world = Self { orders, sku, opening: stock, level, booked, reservations };
        (0..world.orders.len()).for_each(|order| world.skip(order));
        world
    }

    /// A number that is the same for worlds with the same future.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.orders.hash(&mut hasher);
        (self.level.available, self.level.reserved).hash(&mut hasher);
        for reservation in self.reservations.values() {
            let state = reservation.state;
            (state.as_str(), state.was_committed(), reservation.version).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// All that may happen next.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = self.due();
        for (order, saga) in self.orders.iter().enumerate() {
            if saga.is_open() {
                actions.push(Action::Sweep { order });
                actions.extend(saga.budget.cancel.then_some(Action::Cancel { order }));
            }
            if let Some((step, true)) = saga.due()
                && saga.budget.overlaps > 0
            {
                actions.push(Action::Call { order, step });
            }
            for (flight, call) in saga.flights.iter().enumerate() {
                if call.abandoned {
                    actions.push(Action::Arrive { order, flight });
                } else if saga.budget.losses > 0 {
                    actions.push(Action::TimeOut { order, flight });
                    actions.push(Action::Crash { order, flight });
                }
            }
            if saga.budget.redeliveries > 0 {
                actions.extend(again(order, saga));
            }
        }
        actions
    }

    /// What happens for certain, sooner or later.
    pub fn due(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (order, saga) in self.orders.iter().enumerate() {
            for subscription in 0..SUBSCRIPTIONS.len() {
                if saga.channels.lag(subscription) > 0 {
                    actions.push(Action::Deliver { order, subscription });
                }
            }
            if let Some((step, false)) = saga.due() {
                actions.push(Action::Call { order, step });
            }
            for (flight, call) in saga.flights.iter().enumerate().filter(|(_, f)| !f.abandoned) {
                actions.push(match (call.arrived, &call.answer) {
                    (false, _) => Action::Arrive { order, flight },
                    (true, Some(_)) => Action::Answer { order, flight },
                    (true, None) => Action::TimeOut { order, flight },
                });
            }
        }
        actions
    }

    /// Does what may happen.
    ///
    /// # Errors
    /// Somebody finds it impossible.
    pub fn act(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Deliver { order, subscription } => {
                let message = self.orders[order].channels.next(subscription);
                self.deliver(order, SUBSCRIPTIONS[subscription].0, message)?;
            }
            Action::Redeliver { order, subscription, record } => {
                let (group, topic) = SUBSCRIPTIONS[subscription];
                let message = self.orders[order].channels.log(topic)[record];
                self.orders[order].budget.redeliveries -= 1;
                self.deliver(order, group, message)?;
            }
            Action::Sweep { order } => self.orders[order].decide(Event::DeadlinePassed)?,
            Action::Cancel { order } => {
                self.orders[order].budget.cancel = false;
                self.orders[order].decide(Event::CustomerCancelled)?;
            }
            Action::Call { order, step } => self.call(order, step),
            Action::Arrive { order, flight } => self.orders[order].arrive(flight),
            Action::Answer { order, flight } => {
                let saga = &mut self.orders[order];
                let answer = saga.flights[flight].answer.take().unwrap_or(Answer::Unknown);
                saga.answer(flight, &answer)?;
                saga.flights.remove(flight);
            }
            Action::TimeOut { order, flight } => {
                self.orders[order].answer(flight, &Answer::Unknown)?;
                self.lose(order, flight);
            }
            Action::Crash { order, flight } => self.lose(order, flight),
        }
        (0..self.orders.len()).for_each(|order| self.skip(order));
        self.check()
    }

    fn call(&mut self, order: usize, step: Step) {
        let saga = &mut self.orders[order];
        if saga.due().is_some_and(|(_, waited_for)| waited_for) {
            saga.budget.overlaps -= 1;
        }
        saga.call(step);
    }

    fn lose(&mut self, order: usize, flight: usize) {
        let saga = &mut self.orders[order];
        let losses = &mut saga.budget.losses;
        // That a hanging card is not answered is no loss.
        *losses = losses.saturating_sub(1);
        saga.abandon(flight);
    }

    /// Reads over what does not concern a group.
    fn skip(&mut self, order: usize) {
        let channels = &mut self.orders[order].channels;
        for (subscription, (group, topic)) in SUBSCRIPTIONS.into_iter().enumerate() {
            while channels.lag(subscription) > 0
                && !concerns(group, channels.log(topic)[channels.read(subscription)])
            {
                channels.next(subscription);
            }
        }
    }

    fn deliver(&mut self, order: usize, group: Group, message: Message) -> Result<(), Violation> {
        let saga = &mut self.orders[order];
        match group {
            Group::Order => happening(message).map_or(Ok(()), |event| saga.decide(event)),
            Group::Payment => fact(message).map_or(Ok(()), |fact| saga.hear(&fact)),
            Group::Notification => {
                letter(message).map_or(Ok(()), |kind| saga.write_to_customer(kind))
            }
            Group::Inventory => {
                self.wanted(message).map_or(Ok(()), |event| self.shelve(order, &event))
            }
        }
    }

    fn wanted(&self, message: Message) -> Option<OrderEvent> {
        Some(match decision(message)? {
            inventory::Event::Placed => {
                let line = Line { sku: self.sku.clone(), quantity: QUANTITY };
                OrderEvent::Placed(vec![line])
            }
            inventory::Event::Confirmed => OrderEvent::Confirmed,
            inventory::Event::Cancelled => OrderEvent::Cancelled,
        })
    }

    /// What inventory does.
    fn shelve(&mut self, order: usize, event: &OrderEvent) -> Result<(), Violation> {
        let id = self.orders[order].id;
        let levels = Levels::new([(self.sku.clone(), self.level)]);
        let mut books = Books::new(self.reservations.clone(), levels);
        let outcome = books.apply(id, event);
        let outcome = outcome.map_err(|error| Violation(format!("inventory: {error}")))?;
        self.level = books.levels().get(&self.sku).unwrap_or_default();
        for entry in books.entries() {
            self.booked.available += entry.available;
            self.booked.reserved += entry.reserved;
        }
        if let Some(reservation) = books.reservation(id) {
            self.reservations.insert(id, reservation.clone());
        }
        let Outcome::Changed(effect, _) = outcome else { return Ok(()) };
        let message = match effect {
            Effect::Reserved => Message::Reserved,
            Effect::Rejected(_) => Message::Rejected,
            Effect::Committed => Message::Committed,
            Effect::Released => Message::Released,
        };
        self.orders[order].channels.write(Topic::Inventory, message);
        Ok(())
    }
}

fn again(order: usize, saga: &Saga) -> impl Iterator<Item = Action> {
    SUBSCRIPTIONS.into_iter().enumerate().flat_map(move |(subscription, (group, topic))| {
        (0..saga.channels.read(subscription))
            .filter(move |record| concerns(group, saga.channels.log(topic)[*record]))
            .map(move |record| Action::Redeliver { order, subscription, record })
    })
}

fn concerns(group: Group, message: Message) -> bool {
    match group {
        Group::Order => happening(message).is_some(),
        Group::Payment => fact(message).is_some(),
        Group::Notification => letter(message).is_some(),
        Group::Inventory => decision(message).is_some(),
    }
}

/// What the message is in a table of those that concern a group.
fn meaning<T: Copy>(table: &[(Message, T)], message: Message) -> Option<T> {
    table.iter().find(|(known, _)| *known == message).map(|(_, meaning)| *meaning)
}

fn happening(message: Message) -> Option<Event> {
    let table = [
        (Message::Reserved, Event::Reserved),
        (Message::Rejected, Event::Rejected),
        (Message::Committed, Event::Committed),
        (Message::Authorized, Event::Authorized),
        (Message::Declined, Event::Declined),
        (Message::Captured, Event::Captured),
        (Message::CaptureFailed, Event::CaptureFailed),
    ];
    meaning(&table, message)
}

fn fact(message: Message) -> Option<Fact> {
    let table: [(Message, fn() -> Fact); 3] = [
        (Message::Reserved, || Fact::Reserved(intent())),
        (Message::OrderConfirmed, || Fact::Confirmed),
        (Message::OrderCancelled, || Fact::Cancelled),
    ];
    meaning(&table, message).map(|fact| fact())
}

fn letter(message: Message) -> Option<Kind> {
    let table =
        [(Message::OrderCompleted, Kind::Confirmed), (Message::OrderCancelled, Kind::Cancelled)];
    meaning(&table, message)
}

fn decision(message: Message) -> Option<inventory::Event> {
    let table = [
        (Message::Placed, inventory::Event::Placed),
        (Message::OrderConfirmed, inventory::Event::Confirmed),
        (Message::OrderCancelled, inventory::Event::Cancelled),
    ];
    meaning(&table, message)
}
