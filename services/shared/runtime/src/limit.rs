use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

/// How many things may be under way. Slow answers while at least half of the places are taken make it
/// a tenth less, at most once in the time after which an answer is slow; as many quick ones as there
/// are places make it a tenth more. So what is admitted does not wait much longer than that, however
/// many ask (additive increase and multiplicative decrease, with the increase in proportion: D. Chiu
/// and R. Jain, 1989).
///
/// Where few are under way nothing changes: then it is not their number that makes them slow.
#[derive(Debug)]
pub struct Limit {
    most: usize,
    least: usize,
    slow: Duration,
    places: usize,
    taken: usize,
    /// Quick answers since the last change.
    quick: usize,
    cut: Option<Instant>,
}

/// How an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// In good time.
    Quick,
    /// So late that there is too much to do, if there is much to do.
    Slow,
    /// What was answered says nothing about the load of the service, or nothing was.
    Unknown,
}

impl Limit {
    /// Never less or more than these, and the most of them at first. What takes longer than `slow` is
    /// slow.
    pub const fn new(places: RangeInclusive<usize>, slow: Duration) -> Self {
        let (least, most) = (*places.start(), *places.end());
        Self { most, least, slow, places: most, taken: 0, quick: 0, cut: None }
    }

    /// Begins with fewer, and has more when they are seen to be answered quickly.
    #[must_use]
    pub fn beginning_with(mut self, places: usize) -> Self {
        self.places = places.min(self.most).max(self.least);
        self
    }

    /// How many there are now.
    pub const fn places(&self) -> usize {
        self.places
    }

    /// What an answer that took so long is.
    pub fn pace(&self, took: Duration) -> Pace {
        if took > self.slow { Pace::Slow } else { Pace::Quick }
    }

    /// Whether there is a place.
    pub const fn is_free(&self) -> bool {
        self.taken < self.places
    }

    /// Takes a place, if there is one.
    pub const fn enter(&mut self) -> bool {
        let free = self.is_free();
        if free {
            self.taken += 1;
        }
        free
    }

    /// Gives a place back.
    pub fn leave(&mut self, pace: Pace, now: Instant) {
        let busy = self.taken.saturating_mul(2) >= self.places;
        self.taken = self.taken.saturating_sub(1);
        match pace {
            Pace::Quick if busy => self.grow(),
            Pace::Slow if busy => self.shrink(now),
            Pace::Quick | Pace::Slow | Pace::Unknown => {}
        }
    }

    fn grow(&mut self) {
        self.quick += 1;
        if self.quick >= self.places {
            self.quick = 0;
            self.places = (self.places + self.places.div_ceil(10)).min(self.most);
        }
    }

    /// The slow answers of one time are one sign.
    fn shrink(&mut self, now: Instant) {
        self.quick = 0;
        if self.cut.is_none_or(|cut| now.duration_since(cut) >= self.slow) {
            self.cut = Some(now);
            self.places = self.places.saturating_sub(self.places.div_ceil(10)).max(self.least);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOW: Duration = Duration::from_secs(1);

    fn pace() -> impl Strategy<Value = Pace> {
        prop_oneof![Just(Pace::Quick), Just(Pace::Slow), Just(Pace::Unknown)]
    }

    proptest! {
        #[test]
        fn there_are_never_more_under_way_than_places_when_one_enters(
            most in 1..300_usize,
            steps in prop::collection::vec((prop::option::of(pace()), 0..700_u64), 0..500),
        ) {
            let mut limit = Limit::new(most.div_ceil(16)..=most, SLOW);
            let (mut taken, mut now) = (0, Instant::now());
            for (leave, ms) in steps {
                now += Duration::from_millis(ms);
                match leave {
                    Some(pace) if taken > 0 => {
                        limit.leave(pace, now);
                        taken -= 1;
                    }
                    Some(_) => {}
                    None => {
                        let free = taken < limit.places();
                        prop_assert_eq!(limit.enter(), free);
                        taken += usize::from(free);
                    }
                }
                prop_assert!((most.div_ceil(16)..=most).contains(&limit.places()));
            }
        }
    }

    /// All places are taken and given back, again and again.
    fn rounds(limit: &mut Limit, rounds: usize, pace: Pace, now: &mut Instant) {
        for _ in 0..rounds {
            let taken = (0..1_000).take_while(|_| limit.enter()).count();
            *now += SLOW;
            for _ in 0..taken {
                limit.leave(pace, *now);
            }
        }
    }

    #[test]
    fn slow_answers_make_it_smaller_and_quick_ones_as_large_as_it_was() {
        let (mut limit, mut now) = (Limit::new(16..=256, SLOW), Instant::now());
        rounds(&mut limit, 1, Pace::Slow, &mut now);
        assert_eq!(limit.places(), 230, "once for all slow answers of one time");
        rounds(&mut limit, 100, Pace::Slow, &mut now);
        assert_eq!(limit.places(), 16);
        rounds(&mut limit, 100, Pace::Quick, &mut now);
        assert_eq!(limit.places(), 256);
    }

    #[test]
    fn it_grows_beyond_what_it_began_with_when_answers_are_quick() {
        let (mut limit, mut now) = (Limit::new(16..=256, SLOW).beginning_with(32), Instant::now());
        assert_eq!(limit.places(), 32);
        assert_eq!([limit.pace(SLOW), limit.pace(SLOW * 2)], [Pace::Quick, Pace::Slow]);
        rounds(&mut limit, 2, Pace::Quick, &mut now);
        assert_eq!(limit.places(), 36);
    }

    #[test]
    fn a_few_slow_answers_change_nothing() {
        let (mut limit, mut now) = (Limit::new(16..=256, SLOW), Instant::now());
        for _ in 0..100 {
            assert!(limit.enter());
            now += SLOW;
            limit.leave(Pace::Slow, now);
        }
        assert_eq!(limit.places(), 256);
    }
}
