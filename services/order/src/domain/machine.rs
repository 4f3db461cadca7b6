//! The order's state machine. The order row is the saga's only pivot: exactly one transition takes
//! a pending order to CONFIRMED or CANCELLED, and everybody else merely reacts to it
//! (Garcia-Molina and Salem, "Sagas", SIGMOD 1987; compensatable, pivot and retriable steps after
//! Richardson, "Microservices Patterns", chapter 4).

use std::{fmt, str::FromStr};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Placed; stock not yet reserved.
    Pending,
    /// Stock reserved; payment being authorised.
    AwaitingPayment,
    /// Decided in favour.
    Confirmed,
    /// Final: goods committed and money captured.
    Completed,
    /// Final: decided against.
    Cancelled,
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Inventory rejected it.
    OutOfStock,
    /// The provider declined.
    PaymentDeclined,
    /// The deadline passed first.
    Timeout,
    /// The customer asked for it.
    Customer,
    /// The authorised payment can never be captured.
    CaptureFailed,
}

/// What may happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Inventory set every line aside.
    Reserved,
    /// Inventory could not.
    Rejected,
    /// The provider holds the money.
    Authorized,
    /// The provider refused.
    Declined,
    /// The sweeper found the deadline passed.
    DeadlinePassed,
    /// The customer wants it cancelled.
    CustomerCancelled,
    /// The goods left the stock.
    Committed,
    /// The money is ours.
    Captured,
    /// The money will never be ours.
    CaptureFailed,
}

/// The part of an order that its machine reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where it stands.
    pub state: State,
    /// Why it was cancelled; set exactly in [`State::Cancelled`].
    pub reason: Option<Reason>,
    /// Whether the money was captured.
    pub captured: bool,
    /// Whether the goods were committed.
    pub committed: bool,
    /// Counts transitions from 1.
    pub version: i64,
}

/// What the world is told about a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: an intermediate state.
    Silent,
    /// `order.confirmed`.
    Confirm,
    /// `order.cancelled` with the reason.
    Cancel(Reason),
    /// `order.completed`.
    Complete,
}

/// The answer of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The order moved to a new state and version.
    Moved(Order, Effect),
    /// A flag was set; state and version are as before.
    Flagged(Order),
    /// A duplicate, or an event that a decision has overtaken: nothing to do.
    Ignored,
    /// The customer asks too late.
    Refused,
    /// Cannot happen while everybody keeps the rules.
    Impossible,
}

impl Order {
    /// An order just placed.
    pub const fn placed() -> Self {
        Self { state: State::Pending, reason: None, captured: false, committed: false, version: 1 }
    }

    fn to(self, state: State, effect: Effect) -> Step {
        Step::Moved(Self { state, version: self.version + 1, ..self }, effect)
    }

    fn cancel(self, reason: Reason) -> Step {
        Self { reason: Some(reason), ..self }.to(State::Cancelled, Effect::Cancel(reason))
    }

    /// Sets a flag; the second of the two completes the order.
    fn fulfil(self, committed: bool, captured: bool) -> Step {
        let next = Self {
            committed: self.committed || committed,
            captured: self.captured || captured,
            ..self
        };
        if next == self {
            Step::Ignored
        } else if next.committed && next.captured {
            next.to(State::Completed, Effect::Complete)
        } else {
            Step::Flagged(next)
        }
    }
}

/// Decides one event. Total: every pair of state and event has an answer.
pub fn step(order: Order, event: Event) -> Step {
    match order.state {
        State::Pending => pending(order, event),
        State::AwaitingPayment => awaiting_payment(order, event),
        State::Confirmed => confirmed(order, event),
        State::Completed => completed(event),
        State::Cancelled => cancelled(event),
    }
}

fn pending(order: Order, event: Event) -> Step {
    match event {
        Event::Reserved => order.to(State::AwaitingPayment, Effect::Silent),
        Event::Rejected => order.cancel(Reason::OutOfStock),
        // `reserved` travels on another topic and may be late.
        Event::Authorized => order.to(State::Confirmed, Effect::Confirm),
        Event::Declined => order.cancel(Reason::PaymentDeclined),
        Event::DeadlinePassed => order.cancel(Reason::Timeout),
        Event::CustomerCancelled => order.cancel(Reason::Customer),
        Event::Committed | Event::Captured | Event::CaptureFailed => Step::Impossible,
    }
}

fn awaiting_payment(order: Order, event: Event) -> Step {
    match event {
        Event::Reserved => Step::Ignored,
        Event::Authorized => order.to(State::Confirmed, Effect::Confirm),
        Event::Declined => order.cancel(Reason::PaymentDeclined),
        Event::DeadlinePassed => order.cancel(Reason::Timeout),
        Event::CustomerCancelled => order.cancel(Reason::Customer),
        Event::Rejected | Event::Committed | Event::Captured | Event::CaptureFailed => {
            Step::Impossible
        }
    }
}

fn confirmed(order: Order, event: Event) -> Step {
    match event {
        Event::Reserved | Event::Authorized | Event::DeadlinePassed => Step::Ignored,
        Event::CustomerCancelled => Step::Refused,
        Event::Committed => order.fulfil(true, false),
        Event::Captured => order.fulfil(false, true),
        Event::CaptureFailed if !order.captured => order.cancel(Reason::CaptureFailed),
        Event::Rejected | Event::Declined | Event::CaptureFailed => Step::Impossible,
    }
}

fn completed(event: Event) -> Step {
    match event {
        Event::Reserved
        | Event::Authorized
        | Event::DeadlinePassed
        | Event::Committed
        | Event::Captured => Step::Ignored,
        Event::CustomerCancelled => Step::Refused,
        Event::Rejected | Event::Declined | Event::CaptureFailed => Step::Impossible,
    }
}

fn cancelled(event: Event) -> Step {
    match event {
        // The release and the void follow from `order.cancelled`.
        Event::Reserved
        | Event::Rejected
        | Event::Authorized
        | Event::Declined
        | Event::DeadlinePassed
        | Event::CustomerCancelled
        | Event::Committed
        | Event::CaptureFailed => Step::Ignored,
        Event::Captured => Step::Impossible,
    }
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::AwaitingPayment, Self::Confirmed, Self::Completed, Self::Cancelled];

    /// Whether nothing can happen any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::AwaitingPayment => "AWAITING_PAYMENT",
            Self::Confirmed => "CONFIRMED",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::OutOfStock,
        Self::PaymentDeclined,
        Self::Timeout,
        Self::Customer,
        Self::CaptureFailed,
    ];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutOfStock => "OUT_OF_STOCK",
            Self::PaymentDeclined => "PAYMENT_DECLINED",
            Self::Timeout => "TIMEOUT",
            Self::Customer => "CUSTOMER",
            Self::CaptureFailed => "CAPTURE_FAILED",
        }
    }
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 9] = [
        Self::Reserved,
        Self::Rejected,
        Self::Authorized,
        Self::Declined,
        Self::DeadlinePassed,
        Self::CustomerCancelled,
        Self::Committed,
        Self::Captured,
        Self::CaptureFailed,
    ];

    /// The name in the order's history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Rejected => "rejected",
            Self::Authorized => "authorized",
            Self::Declined => "declined",
            Self::DeadlinePassed => "deadline_passed",
            Self::CustomerCancelled => "customer_cancelled",
            Self::Committed => "committed",
            Self::Captured => "captured",
            Self::CaptureFailed => "capture_failed",
        }
    }
}

/// A name that the database should not hold.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown name {0:?}")]
pub struct UnknownName(String);

impl FromStr for State {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned()))
    }
}

impl FromStr for Reason {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == name)
            .ok_or_else(|| UnknownName(name.to_owned()))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
