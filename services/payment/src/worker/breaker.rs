/// Tells an outage of the provider from cards that hang.
///
/// As many unknown outcomes in a row as there may be calls raise a doubt. The provider is then
/// asked something that needs no card. If it does not answer that either, the breaker opens: no
/// job is begun, and one such probe at a time finds out when the provider is back. If it does
/// answer, only these cards are at fault, and they must not hold up the others.
#[derive(Debug)]
pub(super) struct Breaker {
    /// How many unknown outcomes in a row raise a doubt.
    limit: usize,
    unknowns: usize,
    probing: bool,
    open: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    None,
    Now,
    AfterPause,
}

impl Breaker {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, unknowns: 0, probing: false, open: false }
    }

    /// Whether no job is to be begun.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Takes in the outcome of a call.
    pub(super) fn heard(&mut self, known: bool) -> Probe {
        if known {
            self.unknowns = 0;
            self.turn(false);
            return Probe::None;
        }
        self.unknowns = self.unknowns.saturating_add(1);
        if self.probing || self.unknowns < self.limit {
            return Probe::None;
        }
        self.probing = true;
        Probe::Now
    }

    /// Takes in the outcome of a probe.
    pub(super) fn probed(&mut self, up: bool) -> Probe {
        self.probing = false;
        if up {
            self.unknowns = 0;
            self.turn(false);
        }
        if self.unknowns < self.limit {
            // A call was answered in the meantime.
            return Probe::None;
        }
        self.turn(true);
        self.probing = true;
        Probe::AfterPause
    }

    /// Changes the state, and says so once.
    fn turn(&mut self, open: bool) {
        if self.open == open {
            return;
        }
        self.open = open;
        if open {
            tracing::error!("the provider does not answer; no calls are made until it does");
        } else {
            tracing::info!("the provider answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubtful() -> Breaker {
        let mut breaker = Breaker::new(3);
        assert_eq!([breaker.heard(false), breaker.heard(false)], [Probe::None; 2]);
        assert_eq!(breaker.heard(false), Probe::Now);
        assert!(!breaker.is_open());
        breaker
    }

    #[test]
    fn an_outage_opens_it_until_a_probe_is_answered() {
        let mut breaker = doubtful();
        assert_eq!(breaker.probed(false), Probe::AfterPause);
        assert!(breaker.is_open());
        // Calls that were under way end; there is one probe nevertheless.
        assert_eq!(breaker.heard(false), Probe::None);
        assert_eq!(breaker.probed(false), Probe::AfterPause);
        assert!(breaker.is_open());
        assert_eq!(breaker.probed(true), Probe::None);
        assert!(!breaker.is_open());
        assert_eq!(breaker.heard(false), Probe::None, "the count began anew");
    }

    #[test]
    fn cards_that_hang_do_not_open_it() {
        let mut breaker = doubtful();
        assert_eq!(breaker.heard(false), Probe::None);
        assert_eq!(breaker.probed(true), Probe::None);
        assert!(!breaker.is_open());
    }

    #[test]
    fn unknowns_must_come_in_a_row() {
        let mut breaker = Breaker::new(2);
        for known in [false, true, false, true, false] {
            assert_eq!(breaker.heard(known), Probe::None);
        }
        assert_eq!(breaker.heard(false), Probe::Now);
    }

    #[test]
    fn an_answer_closes_it_and_overrules_the_probe() {
        let mut breaker = doubtful();
        assert_eq!(breaker.probed(false), Probe::AfterPause);
        assert_eq!(breaker.heard(true), Probe::None);
        assert!(!breaker.is_open());
        assert_eq!(breaker.probed(false), Probe::None);
        assert!(!breaker.is_open());
    }
}
