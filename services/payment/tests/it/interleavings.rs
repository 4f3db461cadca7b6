//! The state machine against the provider's rules, under every disorder that the rest of the
//! system may produce: records late, twice and across topics out of order, answers lost, late and
//! twice, two workers with the same job.

use std::{collections::VecDeque, time::Duration};

use portolan_kernel::{Currency, Money, OrderId};
use portolan_payment::{
    domain::{
        Answer, Backoff, Call, CardToken, Effect, Fact, Intent, Ledger, Payment, Status, Step,
    },
    psp::{self, AuthorizationStatus, Card, Outcome, Ruling},
};
use proptest::prelude::*;
use time::OffsetDateTime;
use uuid::Uuid;

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(8) };
const ORDER: OrderId = OrderId(Uuid::nil());

/// The provider: its rules, and its memory of answers.
#[derive(Default)]
struct Provider {
    status: Option<AuthorizationStatus>,
    answers: [Option<Answer>; 3],
    captures: usize,
}

impl Provider {
    fn ask(&mut self, step: Step, card: Card) -> Answer {
        let slot = match step {
            Step::Authorize => 0,
            Step::Capture => 1,
            Step::Void => 2,
        };
        if let Some(answer) = &self.answers[slot] {
            return answer.clone();
        }
        let ruling = match (step, self.status) {
            (Step::Authorize, before) => psp::authorize(before, card),
            (Step::Void, before) => psp::void(before),
            (Step::Capture, Some(before)) => psp::capture(before, card == Card::CaptureFails),
            (Step::Capture, None) => panic!("captured what was never authorised"),
        };
        self.status = Some(ruling.status);
        self.captures += usize::from(ruling.outcome == Outcome::Captured);
        let answer = answer(step, ruling);
        self.answers[slot] = Some(answer.clone());
        answer
    }
}

fn answer(step: Step, ruling: Ruling) -> Answer {
    let code = ruling.code.unwrap_or_default().to_owned();
    match (ruling.outcome, step) {
        (Outcome::Approved, _) => Answer::Approved { reference: "r".to_owned() },
        (Outcome::Declined, _) | (Outcome::Refused, Step::Authorize) => Answer::Declined { code },
        (Outcome::Captured, _) => Answer::Captured,
        (Outcome::Refused, Step::Capture) => Answer::CaptureRefused { code },
        (Outcome::Voided, _) => Answer::Voided,
        (Outcome::NothingToVoid, _) => Answer::NothingToVoid,
        (Outcome::Refused, Step::Void) => Answer::VoidRefused { code },
        (Outcome::Refunded, _) => panic!("nobody refunds"),
    }
}

/// The order: decides once, and only once more when capturing failed.
#[derive(Default)]
struct Order {
    confirmed: bool,
    cancelled: bool,
}

/// What the scheduler may do next.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// The next fact of a topic arrives: 0 inventory, 1 order.
    Deliver(bool),
    /// A fact that arrived before arrives again.
    Redeliver(prop::sample::Index),
    /// The customer cancels, or the deadline passes.
    Cancel,
    /// The order hears what the payment told.
    OrderListens,
    /// A worker claims the job.
    Claim,
    /// A claimed call reaches the provider.
    Ask(prop::sample::Index),
    /// A call that reached the provider is answered to its worker.
    Hear(prop::sample::Index),
    /// The answer is heard twice: the worker's transaction was committed but looked lost.
    HearTwice(prop::sample::Index),
    /// The answer is lost.
    Lose(prop::sample::Index),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let index = any::<prop::sample::Index>;
    let one = prop_oneof![
        3 => any::<bool>().prop_map(Move::Deliver),
        1 => index().prop_map(Move::Redeliver),
        1 => Just(Move::Cancel),
        2 => Just(Move::OrderListens),
        2 => Just(Move::Claim),
        2 => index().prop_map(Move::Ask),
        2 => index().prop_map(Move::Hear),
        1 => index().prop_map(Move::HearTwice),
        1 => index().prop_map(Move::Lose),
    ];
    proptest::collection::vec(one, 0..60)
}

struct World {
    card: Card,
    provider: Provider,
    order: Order,
    payment: Option<Payment>,
    inventory_topic: VecDeque<Fact>,
    order_topic: VecDeque<Fact>,
    delivered: Vec<Fact>,
    claimed: Vec<Call>,
    answered: Vec<(Call, Answer)>,
    told: Vec<Status>,
    heard_by_order: usize,
    ledger: Vec<Ledger>,
}

impl World {
    fn new(card: Card) -> Self {
        let intent = Intent {
            amount: Money::new(100, Currency::GBP),
            token: CardToken::new("tok".to_owned()),
            deadline: OffsetDateTime::UNIX_EPOCH,
        };
        Self {
            card,
            provider: Provider::default(),
            order: Order::default(),
            payment: None,
            inventory_topic: VecDeque::from([Fact::Reserved(intent)]),
            order_topic: VecDeque::new(),
            delivered: Vec::new(),
            claimed: Vec::new(),
            answered: Vec::new(),
            told: Vec::new(),
            heard_by_order: 0,
            ledger: Vec::new(),
        }
    }

    fn step(&mut self, next: Move) {
        match next {
            Move::Deliver(inventory) => self.deliver(inventory),
            Move::Redeliver(index) if !self.delivered.is_empty() => {
                let fact = index.get(&self.delivered).clone();
                self.hear_fact(&fact);
            }
            Move::Cancel => self.cancel(),
            Move::OrderListens => self.order_listens(),
            Move::Claim => self.claim(),
            Move::Ask(index) if !self.claimed.is_empty() => {
                let call = self.claimed.remove(index.index(self.claimed.len()));
                let answer = self.provider.ask(call.step, self.card);
                self.answered.push((call, answer));
            }
            Move::Hear(index) if !self.answered.is_empty() => {
                let (call, answer) = self.answered.remove(index.index(self.answered.len()));
                self.hear_answer(call, &answer);
            }
            Move::HearTwice(index) if !self.answered.is_empty() => {
                let (call, answer) = index.get(&self.answered).clone();
                self.hear_answer(call, &answer);
            }
            Move::Lose(index) if !self.answered.is_empty() => {
                let (call, _) = self.answered.remove(index.index(self.answered.len()));
                self.hear_answer(call, &Answer::Unknown);
            }
            Move::Redeliver(_)
            | Move::Ask(_)
            | Move::Hear(_)
            | Move::HearTwice(_)
            | Move::Lose(_) => {}
        }
        self.check();
    }

    fn deliver(&mut self, inventory: bool) {
        let topic = if inventory { &mut self.inventory_topic } else { &mut self.order_topic };
        if let Some(fact) = topic.pop_front() {
            self.hear_fact(&fact);
            self.delivered.push(fact);
        }
    }

    fn hear_fact(&mut self, fact: &Fact) {
        match &mut self.payment {
            None => self.payment = Some(Payment::begin(ORDER, fact, "").expect("a beginning")),
            Some(payment) => {
                payment.hear(fact, "").expect("a possible fact");
            }
        }
    }

    fn hear_answer(&mut self, call: Call, answer: &Answer) {
        let payment = self.payment.as_mut().expect("a payment that was asked about");
        let effect = payment.answer(call, answer, BACKOFF).expect("a possible answer");
        if let Effect::Changed(change) = effect {
            self.ledger.extend(change.ledger);
            if change.tell {
                self.told.push(change.to);
            }
        }
    }

    fn cancel(&mut self) {
        if !self.order.confirmed && !self.order.cancelled {
            self.order.cancelled = true;
            self.order_topic.push_back(Fact::Cancelled);
        }
    }

    fn order_listens(&mut self) {
        let Some(told) = self.told.get(self.heard_by_order) else { return };
        self.heard_by_order += 1;
        match told {
            Status::Authorized if !self.order.cancelled => {
                self.order.confirmed = true;
                self.order_topic.push_back(Fact::Confirmed);
            }
            Status::Declined | Status::CaptureFailed if !self.order.cancelled => {
                self.order.cancelled = true;
                self.order_topic.push_back(Fact::Cancelled);
            }
            Status::Authorized
            | Status::Declined
            | Status::CaptureFailed
            | Status::Captured
            | Status::Voided
            | Status::Authorizing
            | Status::Capturing
            | Status::Voiding
            | Status::Cancelled => {}
        }
    }

    fn claim(&mut self) {
        let Some(payment) = &mut self.payment else { return };
        if let Some(step) = Step::of(payment.status) {
            payment.attempt += 1;
            self.claimed.push(Call { step, attempt: payment.attempt });
        }
    }

    /// What holds at any time.
    fn check(&self) {
        assert!(self.provider.captures <= 1);
        let captured = self.ledger.iter().filter(|kind| **kind == Ledger::Capture).count();
        assert!(captured <= self.provider.captures);
        assert!(self.ledger.len() <= 2, "{:?}", self.ledger);
        if self.order.cancelled {
            assert_eq!(self.provider.captures, 0, "captured though cancelled");
        }
        let mut told = self.told.clone();
        told.dedup();
        assert_eq!(told, self.told, "told twice");
        if let Some(payment) = &self.payment {
            assert!(payment.token.is_none() || payment.status == Status::Authorizing);
        }
    }

    /// Everything that is under way arrives, and the worker works until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..20 {
            while !self.inventory_topic.is_empty() {
                self.deliver(true);
            }
            while !self.order_topic.is_empty() {
                self.deliver(false);
            }
            self.claim();
            while let Some(call) = self.claimed.pop() {
                let answer = self.provider.ask(call.step, self.card);
                self.answered.push((call, answer));
            }
            while let Some((call, answer)) = self.answered.pop() {
                self.hear_answer(call, &answer);
            }
            while self.heard_by_order < self.told.len() {
                self.order_listens();
            }
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_interleaving_ends_where_the_order_decided(
        card in prop_oneof![Just(Card::Good), Just(Card::InsufficientFunds), Just(Card::CaptureFails)],
        moves in moves(),
    ) {
        let mut world = World::new(card);
        for next in moves {
            world.step(next);
        }
        world.settle();
        let status = world.payment.as_ref().map(|payment| payment.status);
        if world.order.cancelled {
            prop_assert!(
                matches!(status, Some(Status::Voided | Status::Cancelled | Status::Declined)),
                "{status:?}"
            );
            prop_assert_ne!(world.provider.status, Some(AuthorizationStatus::Open));
            prop_assert_eq!(world.provider.captures, 0);
        } else {
            prop_assert_eq!(status, Some(Status::Captured));
            prop_assert_eq!(world.provider.captures, 1);
            prop_assert_eq!(world.ledger, [Ledger::Auth, Ledger::Capture]);
        }
    }
}
