use std::time::Duration;

use portolan_kernel::{Money, OrderId};
use time::OffsetDateTime;

use super::{
    Backoff, CardToken, Status, Step,
    machine::{Change, Decision, Event, Impossible, Position, decide},
};

/// What a reservation asks the payment for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// How much to authorise.
    pub amount: Money,
    /// From which card.
    pub token: CardToken,
    /// From when on it is no use to begin.
    pub deadline: OffsetDateTime,
}

/// What another service made known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Inventory set the goods aside.
    Reserved(Intent),
    /// The order was confirmed.
    Confirmed,
    /// The order was cancelled.
    Cancelled,
}

impl Fact {
    const fn event(&self) -> Event {
        match self {
            Self::Reserved(_) => Event::Reserved,
            Self::Confirmed => Event::Confirmed,
            Self::Cancelled => Event::Cancelled,
        }
    }
}

/// What the provider said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It holds the amount, under this reference.
    Approved { reference: String },
    /// It does not authorise, for this reason.
    Declined { code: String },
    /// It captured.
    Captured,
    /// It will never capture, for this reason.
    CaptureRefused { code: String },
    /// It let go of the amount.
    Voided,
    /// It held nothing.
    NothingToVoid,
    /// It does not void, for this reason.
    VoidRefused { code: String },
    /// Nothing that tells whether it did what was asked.
    Unknown,
}

impl Answer {
    /// The event of the state machine that this answer is.
    pub const fn event(&self) -> Event {
        match self {
            Self::Approved { .. } => Event::Approve,
            Self::Declined { .. } => Event::Decline,
            Self::Captured => Event::Captured,
            Self::CaptureRefused { .. } => Event::CaptureRefused,
            Self::Voided => Event::Voided,
            Self::NothingToVoid => Event::NothingToVoid,
            Self::VoidRefused { .. } => Event::VoidRefused,
            Self::Unknown => Event::Unknown,
        }
    }
}

/// The call that an answer belongs to: what was asked, and at which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub step: Step,
    /// The payment's count of attempts at that time.
    pub attempt: u32,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The payment has a new status and version.
    Changed(Change),
    /// The provider is asked again, after a wait.
    Postponed,
    /// Nothing.
    Ignored,
}

/// The one payment of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The order it pays.
    pub order: OrderId,
    /// Where it stands.
    pub status: Status,
    /// Grows by one with every change of status; the first is 1.
    pub version: i64,
    /// How much; none if the order was cancelled before its reservation was seen.
    pub amount: Option<Money>,
    /// The card, as long as it is needed.
    pub token: Option<CardToken>,
    /// The provider's reference of the authorisation.
    pub reference: Option<String>,
    /// The provider's reason for a refusal.
    pub code: Option<String>,
    /// How often the provider was called for the present step.
    pub attempt: u32,
    /// Whether the order's confirmation was heard.
    pub confirmed: bool,
    /// Whether the order's cancellation was heard.
    pub cancel_requested: bool,
    /// From when on it is no use to begin to authorise.
    pub deadline: Option<OffsetDateTime>,
    /// How long the provider is to be left alone before the present step's next attempt.
    pub wait: Duration,
    /// The trace context (W3C `traceparent`) of what caused the present step.
    pub trace: String,
}

impl Payment {
    /// The payment that the first fact about an order makes.
    ///
    /// # Errors
    /// A payment cannot begin with this fact.
    pub fn begin(order: OrderId, fact: &Fact, trace: &str) -> Result<Self, Impossible> {
        let at = Position { status: None, attempted: false, confirmed: false };
        let event = fact.event();
        let Decision::Change(change) = decide(at, event) else {
            return Err(Impossible { status: None, event });
        };
        let mut payment = Self {
            order,
            status: change.to,
            version: 1,
            amount: None,
            token: None,
            reference: None,
            code: None,
            attempt: 0,
            confirmed: false,
            cancel_requested: false,
            deadline: None,
            wait: Duration::ZERO,
            trace: trace.to_owned(),
        };
        payment.note(fact);
        Ok(payment)
    }

    /// Takes in what another service made known. `trace` is the context of its event.
    ///
    /// # Errors
    /// It contradicts the status.
    pub fn hear(&mut self, fact: &Fact, trace: &str) -> Result<Effect, Impossible> {
        let effect = self.fold(fact.event())?;
        if matches!(effect, Effect::Changed(_)) {
            self.note(fact);
            trace.clone_into(&mut self.trace);
        }
        Ok(effect)
    }

    /// Takes in what the provider said to a call.
    ///
    /// # Errors
    /// It contradicts the status.
    pub fn answer(
        &mut self,
        call: Call,
        answer: &Answer,
        backoff: Backoff,
    ) -> Result<Effect, Impossible> {
        let superseded = Step::of(self.status) != Some(call.step) || self.attempt != call.attempt;
        if *answer == Answer::Unknown && superseded {
            // Silence says something only to the call that still waits for it.
            return Ok(Effect::Ignored);
        }
        let effect = self.fold(answer.event())?;
        match effect {
            Effect::Changed(_) => self.keep(answer),
            Effect::Postponed => self.wait = backoff.delay(self.order, self.attempt),
            Effect::Ignored => {}
        }
        Ok(effect)
    }

    /// Whether the provider is to be called.
    pub const fn is_due_at_provider(&self) -> bool {
        Step::of(self.status).is_some()
    }

    fn fold(&mut self, event: Event) -> Result<Effect, Impossible> {
        let at = Position {
            status: Some(self.status),
            attempted: self.attempt > 0,
            confirmed: self.confirmed,
        };
        match decide(at, event) {
            Decision::Change(change) => {
                self.enter(change.to);
                Ok(Effect::Changed(change))
            }
            Decision::Retry => Ok(Effect::Postponed),
            Decision::Ignore => Ok(Effect::Ignored),
            Decision::Impossible => Err(Impossible { status: at.status, event }),
        }
    }

    fn enter(&mut self, status: Status) {
        self.status = status;
        self.version += 1;
        self.attempt = 0;
        self.wait = Duration::ZERO;
        self.token = None;
    }

    fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::Reserved(intent) => {
                self.amount = Some(intent.amount);
                self.token = Some(intent.token.clone());
                self.deadline = Some(intent.deadline);
            }
            Fact::Confirmed => self.confirmed = true,
            Fact::Cancelled => self.cancel_requested = true,
        }
    }

    fn keep(&mut self, answer: &Answer) {
        match answer {
            Answer::Approved { reference } => self.reference = Some(reference.clone()),
            Answer::Declined { code }
            | Answer::CaptureRefused { code }
            | Answer::VoidRefused { code } => self.code = Some(code.clone()),
            Answer::Captured | Answer::Voided | Answer::NothingToVoid | Answer::Unknown => {}
        }
    }
}
