use std::time::Duration;

use tokio::time::Instant;

use super::{
    BreakerConfig,
    window::{Tally, Window},
};

/// Whether a service is called: closed as long as enough calls are answered, then open for a while,
/// then half open, when one call at a time finds out how things are (M. Nygard, *Release It!*,
/// "Circuit Breaker"). Knows no clock and makes no calls.
#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    state: State,
    window: Window,
    /// One more with each change of the state. What was begun before a change tells nothing about
    /// the time after it.
    era: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// The state, for those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    HalfOpen,
    Open,
}

/// Leave to make one call, whose outcome must be told.
#[derive(Debug)]
pub(super) struct Leave {
    era: u64,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The service answered, whatever it said.
    Answered,
    /// It did not, or said that it cannot.
    Failed,
    /// Nobody waited for long enough to know.
    Unknown,
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig, now: Instant) -> Self {
        let window = Window::new(config.window(), now);
        Self { config, state: State::Closed, window, era: 0 }
    }

    pub(super) const fn phase(&self) -> Phase {
        match self.state {
            State::Closed => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::HalfOpen { .. } => Phase::HalfOpen,
        }
    }

    /// Whether a call may be made now; if not, how long it makes no sense to ask again.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Leave, Duration> {
        match self.state {
            State::Closed => {}
            State::Open { until } if now < until => return Err(until.duration_since(now)),
            State::Open { .. } => self.turn(State::HalfOpen { probing: true }, now),
            State::HalfOpen { probing: true } => return Err(self.config.open()),
            State::HalfOpen { probing: false } => self.state = State::HalfOpen { probing: true },
        }
        Ok(Leave { era: self.era })
    }

    /// Takes in what became of a call.
    #[expect(clippy::needless_pass_by_value, reason = "a leave is good for one outcome")]
    pub(super) fn heard(&mut self, leave: Leave, outcome: Outcome, now: Instant) {
        if leave.era != self.era {
            return;
        }
        let open = State::Open { until: now + self.config.open() };
        match (self.state, outcome) {
            (State::Closed, Outcome::Answered) => {
                self.window.count(false, now);
            }
            (State::Closed, Outcome::Failed) => {
                let tally = self.window.count(true, now);
                if self.is_too_much(tally) {
                    self.turn(open, now);
                }
            }
            (State::HalfOpen { .. }, Outcome::Answered) => self.turn(State::Closed, now),
            (State::HalfOpen { .. }, Outcome::Failed) => self.turn(open, now),
            (State::HalfOpen { .. }, Outcome::Unknown) => {
                self.state = State::HalfOpen { probing: false };
            }
            // While it is open no call of its era is under way.
            (State::Closed, Outcome::Unknown) | (State::Open { .. }, _) => {}
        }
    }

    fn is_too_much(&self, tally: Tally) -> bool {
        let failed = u64::from(tally.failed) * 100;
        let limit = u64::from(tally.calls) * u64::from(self.config.failure_percent);
        tally.calls >= self.config.min_calls && failed >= limit
    }

    fn turn(&mut self, state: State, now: Instant) {
        self.state = state;
        self.era += 1;
        self.window = Window::new(self.config.window(), now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::window::SLOTS, *};

    const CONFIG: BreakerConfig =
        BreakerConfig { window_ms: 1_000, min_calls: 4, failure_percent: 50, open_ms: 300 };

    /// What happens to a breaker.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u64),
        Call,
        /// One of the calls under way ends.
        End(usize, Outcome),
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            4 => Just(Outcome::Failed),
            2 => Just(Outcome::Answered),
            1 => Just(Outcome::Unknown),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..400_u64).prop_map(Step::Wait),
            4 => Just(Step::Call),
            4 => (0..8_usize, outcome()).prop_map(|(which, outcome)| Step::End(which, outcome)),
        ]
    }

    /// A breaker, its time, and the calls under way with the number of the change they follow.
    struct Bench {
        breaker: Breaker,
        now: Instant,
        calls: Vec<Leave>,
        opened: Option<Instant>,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            let breaker = Breaker::new(CONFIG, now);
            Self { breaker, now, calls: Vec::new(), opened: None }
        }

        fn probes(&self) -> usize {
            self.calls.iter().filter(|leave| leave.era == self.breaker.era).count()
        }

        /// Does it, and checks what must hold whatever was done before.
        fn take(&mut self, step: Step) {
            let before = self.breaker.phase();
            match step {
                Step::Wait(ms) => self.now += Duration::from_millis(ms),
                Step::Call => self.call(before),
                Step::End(which, outcome) if !self.calls.is_empty() => {
                    let leave = self.calls.remove(which % self.calls.len());
                    self.end(leave, outcome, before);
                }
                Step::End(..) => {}
            }
            if self.breaker.phase() == Phase::Open && before != Phase::Open {
                self.opened = Some(self.now);
            }
            if self.breaker.phase() == Phase::HalfOpen {
                assert!(self.probes() <= 1, "one probe at a time");
            }
        }

        fn call(&mut self, before: Phase) {
            let probes = self.probes();
            let admitted = self.breaker.admit(self.now);
            let open = CONFIG.open();
            let expected = match before {
                Phase::Closed => true,
                Phase::HalfOpen => probes == 0,
                Phase::Open => self.opened.is_some_and(|opened| self.now >= opened + open),
            };
            assert_eq!(admitted.is_ok(), expected, "{before:?}");
            match admitted {
                Ok(leave) => self.calls.push(leave),
                Err(pause) => assert!(!pause.is_zero() && pause <= open),
            }
        }

        fn end(&mut self, leave: Leave, outcome: Outcome, before: Phase) {
            let counts = leave.era == self.breaker.era;
            self.breaker.heard(leave, outcome, self.now);
            let after = self.breaker.phase();
            match (before, after) {
                (Phase::Closed | Phase::HalfOpen, Phase::Open) => {
                    assert!(counts && outcome == Outcome::Failed);
                }
                (Phase::HalfOpen, Phase::Closed) => {
                    assert!(counts && outcome == Outcome::Answered);
                }
                (before, after) => assert_eq!(before, after),
            }
        }
    }

    proptest! {
        #[test]
        fn one_probe_at_a_time_decides_and_nothing_from_before_does(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut bench = Bench::new();
            for step in steps {
                bench.take(step);
            }
        }

        #[test]
        fn it_opens_when_so_many_of_enough_calls_within_the_window_have_failed_and_not_before(
            calls in prop::collection::vec((0..300_u64, any::<bool>()), 1..60),
        ) {
            let mut bench = Bench::new();
            let slot = CONFIG.window_ms / u64::from(SLOTS);
            let (mut at, mut ended) = (0, Vec::new());
            for (gap, failed) in calls {
                bench.take(Step::Wait(gap));
                bench.take(Step::Call);
                let outcome = if failed { Outcome::Failed } else { Outcome::Answered };
                bench.take(Step::End(0, outcome));
                at += gap;
                ended.push((at / slot, failed));
                let lately = ended.iter().filter(|(then, _)| then + u64::from(SLOTS) > at / slot);
                let lately: Vec<bool> = lately.map(|(_, failed)| *failed).collect();
                let bad = lately.iter().filter(|failed| **failed).count();
                let open = failed && lately.len() >= 4 && bad * 2 >= lately.len();
                prop_assert_eq!(bench.breaker.phase() == Phase::Open, open);
                if open {
                    break;
                }
            }
        }

        #[test]
        fn whatever_happened_it_closes_when_the_service_answers_again(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut bench = Bench::new();
            for step in steps {
                bench.take(step);
            }
            while !bench.calls.is_empty() {
                bench.take(Step::End(0, Outcome::Unknown));
            }
            bench.take(Step::Wait(CONFIG.open_ms));
            bench.take(Step::Call);
            bench.take(Step::End(0, Outcome::Answered));
            prop_assert!(bench.calls.is_empty());
            prop_assert_eq!(bench.breaker.phase(), Phase::Closed);
        }
    }
}
