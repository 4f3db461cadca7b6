//! The provider by its own rules, and calls that are on their way to it.

use std::hash::{Hash, Hasher};

use portolan_payment::{
    domain::{Answer, Call, Step},
    psp::{self, AuthorizationStatus, Card, Outcome, Ruling},
};

/// The provider's books for one order: the authorisation, and its first answer to each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(crate) card: Card,
    pub(crate) status: Option<AuthorizationStatus>,
    pub(crate) captures: u32,
    authorized: Option<Answer>,
    captured: Option<Answer>,
    voided: Option<Answer>,
}

impl Provider {
    pub(crate) const fn new(card: Card) -> Self {
        let (authorized, captured, voided) = (None, None, None);
        Self { card, status: None, captures: 0, authorized, captured, voided }
    }

    /// Decides a request, or repeats what was decided. None: this card's calls are never answered.
    pub(crate) fn perform(&mut self, step: Step) -> Option<Answer> {
        if step == Step::Authorize && self.card == Card::Hangs {
            return None;
        }
        if let Some(given) = self.given(step) {
            return Some(given.clone());
        }
        let ruling = self.rule(step);
        self.status = Some(ruling.status);
        self.captures += u32::from(ruling.outcome == Outcome::Captured);
        *self.given(step) = Some(answer(step, &ruling));
        self.given(step).clone()
    }

    fn rule(&self, step: Step) -> Ruling {
        match step {
            Step::Authorize => psp::authorize(self.status, self.card),
            Step::Capture => {
                let status = self.status.unwrap_or(AuthorizationStatus::Tombstone);
                psp::capture(status, self.card == Card::CaptureFails)
            }
            Step::Void => psp::void(self.status),
        }
    }

    fn given(&mut self, step: Step) -> &mut Option<Answer> {
        match step {
            Step::Authorize => &mut self.authorized,
            Step::Capture => &mut self.captured,
            Step::Void => &mut self.voided,
        }
    }
}

impl Hash for Provider {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let given = [&self.authorized, &self.captured, &self.voided];
        let given = given.map(|answer| answer.as_ref().map(Answer::event));
        (self.status, self.captures, given).hash(hasher);
    }
}

/// How the payment service reads the provider's words.
fn answer(step: Step, ruling: &Ruling) -> Answer {
    let code = ruling.code.unwrap_or_default().to_owned();
    match (step, ruling.outcome) {
        (_, Outcome::Approved) => Answer::Approved { reference: "reference".to_owned() },
        (_, Outcome::Captured) => Answer::Captured,
        (_, Outcome::Voided) => Answer::Voided,
        (_, Outcome::NothingToVoid) => Answer::NothingToVoid,
        (Step::Authorize, _) => Answer::Declined { code },
        (Step::Capture, _) => Answer::CaptureRefused { code },
        (Step::Void, _) => Answer::VoidRefused { code },
    }
}

/// A call that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    pub call: Call,
    /// Whether the request is at the provider yet.
    pub arrived: bool,
    /// What it said, if it said anything.
    pub answer: Option<Answer>,
    /// Whether nobody waits for the answer any more.
    pub abandoned: bool,
}
