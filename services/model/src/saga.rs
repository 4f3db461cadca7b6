//! One order in all services but inventory, whose shelves all orders share.

use std::hash::{Hash, Hasher};

use portolan_kernel::{Currency, Money, OrderId};
use portolan_notification::domain::{self as notification, Kind};
use portolan_order::domain::{self as order, Order, State};
use portolan_payment::{
    domain::{
        Answer, Backoff, Call, CardToken, Effect, Fact, Impossible, Intent, Payment, Status, Step,
    },
    psp::Card,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Violation,
    channel::{Channels, Message, Topic},
    provider::{Flight, Provider},
};

/// How often a hanging card is tried before only the deadline is left to happen.
const HANGING: u32 = 2;

/// How much may go wrong, so that there is an end to what may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Records that are delivered once more.
    pub redeliveries: u8,
    /// Calls whose answer is never heard, whether or not they arrive.
    pub losses: u8,
    /// Calls that are made while another is under way, as after a lease that ran out.
    pub overlaps: u8,
    /// Whether the customer may ask for a cancellation.
    pub cancel: bool,
}

/// One order.
#[derive(Clone, Debug)]
pub struct Saga {
    pub id: OrderId,
    pub order: Order,
    pub payment: Option<Payment>,
    pub letter: Option<Kind>,
    pub flights: Vec<Flight>,
    pub channels: Channels,
    pub budget: Budget,
    pub(crate) provider: Provider,
}

impl Saga {
    /// An order that was just placed.
    pub fn placed(number: u128, card: Card, budget: Budget) -> Self {
        let mut channels = Channels::default();
        channels.write(Topic::Order, Message::Placed);
        Self {
            id: OrderId(Uuid::from_u128(number)),
            order: Order::placed(),
            payment: None,
            letter: None,
            flights: Vec::new(),
            channels,
            budget,
            provider: Provider::new(card),
        }
    }

    /// Whether the sweeper or the customer can still end it.
    pub fn is_open(&self) -> bool {
        matches!(self.order.state, State::Pending | State::AwaitingPayment)
    }

    /// What the order service does.
    pub(crate) fn decide(&mut self, event: order::Event) -> Result<(), Violation> {
        match order::step(self.order, event) {
            order::Step::Moved(next, effect) => {
                self.order = next;
                let told = match effect {
                    order::Effect::Silent => return Ok(()),
                    order::Effect::Confirm => Message::OrderConfirmed,
                    order::Effect::Cancel(_) => Message::OrderCancelled,
                    order::Effect::Complete => Message::OrderCompleted,
                };
                self.channels.write(Topic::Order, told);
            }
            order::Step::Flagged(next) => self.order = next,
            order::Step::Ignored | order::Step::Refused => {}
            order::Step::Impossible => {
                return Err(Violation(format!("order: {event:?} in {:?}", self.order)));
            }
        }
        Ok(())
    }

    /// What the payment service does with an event of another.
    pub(crate) fn hear(&mut self, fact: &Fact) -> Result<(), Violation> {
        let effect = match &mut self.payment {
            Some(payment) => payment.hear(fact, "").map_err(impossible)?,
            none => {
                let begun = Payment::begin(self.id, fact, "");
                *none = Some(begun.map_err(impossible)?);
                return Ok(());
            }
        };
        self.tell(effect);
        Ok(())
    }

    fn tell(&mut self, effect: Effect) {
        let Effect::Changed(change) = effect else { return };
        let message = match change.to {
            Status::Authorized => Message::Authorized,
            Status::Declined => Message::Declined,
            Status::Captured => Message::Captured,
            Status::CaptureFailed => Message::CaptureFailed,
            Status::Voided => Message::Voided,
            Status::Authorizing | Status::Capturing | Status::Voiding | Status::Cancelled => return,
        };
        if change.tell {
            self.channels.write(Topic::Payment, message);
        }
    }

    /// What the notification service does with an order's end.
    pub(crate) fn write_to_customer(&mut self, kind: Kind) -> Result<(), Violation> {
        match notification::decide(self.letter, kind) {
            notification::Decision::Create => self.letter = Some(kind),
            notification::Decision::Duplicate => {}
            notification::Decision::Impossible => {
                return Err(Violation(format!("a second letter: {kind:?}")));
            }
        }
        Ok(())
    }

    /// The step that the provider is to be asked for now, and whether somebody waits for its answer.
    pub(crate) fn due(&self) -> Option<(Step, bool)> {
        let payment = self.payment.as_ref()?;
        let step = Step::of(payment.status)?;
        let hangs = self.provider.card == Card::Hangs && step == Step::Authorize;
        if hangs && payment.attempt >= HANGING {
            return None;
        }
        let call = Call { step, attempt: payment.attempt };
        Some((step, self.flights.iter().any(|flight| !flight.abandoned && flight.call == call)))
    }

    /// Begins a call: the attempt is counted before it is made.
    pub(crate) fn call(&mut self, step: Step) {
        let Some(payment) = &mut self.payment else { return };
        payment.attempt += 1;
        let call = Call { step, attempt: payment.attempt };
        self.flights.push(Flight { call, arrived: false, answer: None, abandoned: false });
    }

    /// The request of a call reaches the provider.
    pub(crate) fn arrive(&mut self, flight: usize) {
        let Flight { call, abandoned, .. } = self.flights[flight];
        let answer = self.provider.perform(call.step);
        if abandoned {
            self.flights.remove(flight);
        } else {
            self.flights[flight].arrived = true;
            self.flights[flight].answer = answer;
        }
    }

    /// The answer of a call, or that there will be none, reaches the payment service.
    pub(crate) fn answer(&mut self, flight: usize, answer: &Answer) -> Result<(), Violation> {
        let backoff = Backoff { base: std::time::Duration::ZERO, cap: std::time::Duration::ZERO };
        let call = self.flights[flight].call;
        let Some(payment) = &mut self.payment else { return Ok(()) };
        let effect = payment.answer(call, answer, backoff).map_err(impossible)?;
        self.tell(effect);
        Ok(())
    }

    /// Nobody waits for the call any more; it may arrive all the same.
    pub(crate) fn abandon(&mut self, flight: usize) {
        if self.flights[flight].arrived {
            self.flights.remove(flight);
        } else {
            self.flights[flight].abandoned = true;
        }
    }
}

/// What a reservation asks the payment for.
pub(crate) fn intent() -> Intent {
    let amount = Money { minor_units: 100, currency: Currency::GBP };
    let token = CardToken::new("token".to_owned());
    Intent { amount, token, deadline: OffsetDateTime::UNIX_EPOCH }
}

fn impossible(error: Impossible) -> Violation {
    Violation(format!("payment: {error}"))
}

/// Of everything that decides what may happen next.
impl Hash for Saga {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Order { state, reason, captured, committed, version } = self.order;
        (state, reason, captured, committed, version).hash(hasher);
        let payment = self.payment.as_ref();
        payment.map(|p| (p.status, p.version, p.attempt, p.confirmed)).hash(hasher);
        self.letter.hash(hasher);
        self.provider.hash(hasher);
        for flight in &self.flights {
            let answer = flight.answer.as_ref().map(Answer::event);
            let Call { step, attempt } = flight.call;
            (step, attempt, flight.arrived, flight.abandoned, answer).hash(hasher);
        }
        (&self.channels, self.budget).hash(hasher);
    }
}
