use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

/// What takes so many times longer than what is slow is never usual.
const MOST_USUAL: u32 = 10;

/// What is usual comes nearer to an answer by one part of so many.
const MEMORY: u32 = 1024;

/// How many things may be under way. Slow answers while at least half of the places are taken make it
/// a tenth less, at most once in the time after which an answer is slow; as many quick ones as there
/// are places make it a tenth more. So what is admitted does not wait much longer than that, however
/// many ask (additive increase and multiplicative decrease, with the increase in proportion: D. Chiu
/// and R. Jain, 1989).
///
/// Where few are under way slow answers change nothing: then it is not their number that makes them
/// slow. Quick ones lead back to as many places as there were at first. What answers take while no more
/// are under way than may always be is what is usual, and less than half as much again is not slow: on
/// a slow machine, or with a slow disk, fewer places would make nothing faster. A rush of a minute does
/// not pass for such a machine.
#[derive(Debug)]
pub struct Limit {
    most: usize,
    least: usize,
    first: usize,
    slow: Duration,
    /// What answers took while no more than `least` were under way: the moving average of about a
    /// thousand.
    usual: Duration,
    places: usize,
    taken: usize,
    /// Quick answers since the last change.
    quick: usize,
    cut: Option<Instant>,
}

/// A place that was taken, to be given back with [`Limit::leave`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Place {
    /// Whether at least half of the places were taken.
    busy: bool,
    /// Whether no more were taken than there always are.
    alone: bool,
}

/// How an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// After this time.
    Took(Duration),
    /// Not at all, or too late to be of use.
    Failed,
    /// What was answered says nothing about the load, or nothing was.
    Unknown,
}

impl Limit {
    /// Never less or more than these, and the most of them at first. What takes longer than `slow` is
    /// slow, unless that is usual.
    pub fn new(places: RangeInclusive<usize>, slow: Duration) -> Self {
        let (least, most) = (*places.start(), *places.end());
        // Until it is known better, half as much again is what is called slow.
        let usual = slow * 2 / 3;
        Self { most, least, first: most, slow, usual, places: most, taken: 0, quick: 0, cut: None }
    }

    /// Begins with fewer, and has more when they are seen to be answered quickly.
    #[must_use]
    pub fn beginning_with(mut self, places: usize) -> Self {
        self.first = places.min(self.most).max(self.least);
        self.places = self.first;
        self
    }

    /// How many there are now.
    pub const fn places(&self) -> usize {
        self.places
    }

    /// Whether there is a place.
    pub const fn is_free(&self) -> bool {
        self.taken < self.places
    }

    /// Takes a place, if there is one.
    pub fn enter(&mut self) -> Option<Place> {
        let free = self.is_free();
        self.taken += usize::from(free);
        free.then_some(Place { busy: self.is_busy(), alone: self.taken <= self.least })
    }

    const fn is_busy(&self) -> bool {
        self.taken.saturating_mul(2) >= self.places
    }

    /// Gives a place back.
    pub fn leave(&mut self, place: Place, answer: Answer, now: Instant) {
        // It was among many for some of its time, or among few for all of it.
        let busy = place.busy || self.is_busy();
        let alone = place.alone && self.taken <= self.least;
        self.taken = self.taken.saturating_sub(1);
        let slow = self.slow.max(self.usual * 3 / 2);
        match answer {
            Answer::Took(time) => {
                if alone {
                    self.note(time);
                }
                if time <= slow && (busy || self.places < self.first) {
                    self.grow();
                } else if time > slow && busy {
                    self.shrink(slow, now);
                }
            }
            Answer::Failed if busy => self.shrink(slow, now),
            Answer::Failed | Answer::Unknown => {}
        }
    }

    /// However slow the few have been: a stall must not make everything look quick after it. Nor must
    /// a rush, in which few are let in and are slow for what those let in before have left to do.
    fn note(&mut self, time: Duration) {
        let time = time.min(self.slow * MOST_USUAL);
        self.usual = (self.usual * (MEMORY - 1) + time) / MEMORY;
    }

    fn grow(&mut self) {
        self.quick += 1;
        if self.quick >= self.places {
            self.quick = 0;
            self.places = (self.places + self.places.div_ceil(10)).min(self.most);
        }
    }

    /// The slow answers of one time are one sign.
    fn shrink(&mut self, slow: Duration, now: Instant) {
        self.quick = 0;
        if self.cut.is_none_or(|cut| now.duration_since(cut) >= slow) {
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

    fn answer() -> impl Strategy<Value = Answer> {
        let took = (0..5_000_u64).prop_map(|ms| Answer::Took(Duration::from_millis(ms)));
        prop_oneof![3 => took, 1 => Just(Answer::Failed), 1 => Just(Answer::Unknown)]
    }

    proptest! {
        #[test]
        fn there_are_never_more_under_way_than_places_when_one_enters(
            most in 1..300_usize,
            steps in prop::collection::vec((prop::option::of(answer()), 0..700_u64), 0..500),
        ) {
            let mut limit = Limit::new(most.div_ceil(16)..=most, SLOW);
            let (mut taken, mut now) = (Vec::new(), Instant::now());
            for (leave, ms) in steps {
                now += Duration::from_millis(ms);
                if let Some(answer) = leave {
                    if let Some(place) = taken.pop() {
                        limit.leave(place, answer, now);
                    }
                } else {
                    let free = taken.len() < limit.places();
                    let place = limit.enter();
                    prop_assert_eq!(place.is_some(), free);
                    taken.extend(place);
                }
                prop_assert!((most.div_ceil(16)..=most).contains(&limit.places()));
            }
        }
    }

    fn fill(limit: &mut Limit) -> Vec<Place> {
        std::iter::from_fn(|| limit.enter()).collect()
    }

    /// All places are taken and given back, again and again. Each answer takes what it does when so
    /// many are under way.
    fn rounds(limit: &mut Limit, rounds: usize, time: impl Fn(u32) -> Duration, now: &mut Instant) {
        for _ in 0..rounds {
            let taken = fill(limit);
            let time = time(u32::try_from(taken.len()).unwrap());
            *now += time;
            for place in taken {
                limit.leave(place, Answer::Took(time), *now);
            }
        }
    }

    /// A server that does one thing after the other, in 50 ms each.
    fn in_turn(taken: u32) -> Duration {
        Duration::from_millis(50) * taken
    }

    #[test]
    fn there_are_as_many_as_are_answered_in_good_time() {
        for begin in [4, 256] {
            let mut limit = Limit::new(4..=256, SLOW).beginning_with(begin);
            rounds(&mut limit, 200, in_turn, &mut Instant::now());
            assert!((18..=22).contains(&limit.places()), "{begin}: {}", limit.places());
        }
    }

    #[test]
    fn the_slow_answers_of_one_time_count_once() {
        let mut limit = Limit::new(4..=256, SLOW);
        rounds(&mut limit, 1, in_turn, &mut Instant::now());
        assert_eq!(limit.places(), 230);
    }

    #[test]
    fn what_is_slow_however_few_there_are_is_not_made_worse_by_refusing_others() {
        let mut limit = Limit::new(4..=256, SLOW).beginning_with(32);
        rounds(&mut limit, 5_000, |_| SLOW * 3, &mut Instant::now());
        assert_eq!(limit.places(), 256);
    }

    /// Each of those let in leaves work behind, which makes even a few of the next ones slow.
    #[test]
    fn a_rush_does_not_pass_for_a_machine_that_is_slow() {
        // It began calmly, or in the middle of the rush.
        for calm in [100, 0] {
            let (mut limit, mut now) = (Limit::new(4..=256, SLOW), Instant::now());
            for _ in 0..calm {
                let place = limit.enter().unwrap();
                now += SLOW / 2;
                limit.leave(place, Answer::Took(SLOW / 2), now);
            }
            rounds(&mut limit, 100, |taken| SLOW * 2 + SLOW * taken / 8, &mut now);
            assert_eq!(limit.places(), 4, "after {calm} calm answers");
        }
    }

    /// Nobody has to come in crowds for it.
    #[test]
    fn after_a_rush_there_are_soon_as_many_as_at_first() {
        let mut limit = Limit::new(4..=256, SLOW).beginning_with(32);
        let mut now = Instant::now();
        rounds(&mut limit, 100, |_| SLOW * 2, &mut now);
        assert_eq!(limit.places(), 4);
        for _ in 0..400 {
            let place = limit.enter().unwrap();
            limit.leave(place, Answer::Took(SLOW / 10), now);
        }
        assert!((32..36).contains(&limit.places()), "{}", limit.places());
    }

    #[test]
    fn what_fails_makes_it_as_small_as_it_may_be() {
        let (mut limit, mut now) = (Limit::new(16..=256, SLOW), Instant::now());
        for _ in 0..100 {
            let taken = fill(&mut limit);
            now += SLOW;
            for place in taken {
                limit.leave(place, Answer::Failed, now);
            }
        }
        assert_eq!(limit.places(), 16);
    }

    #[test]
    fn a_few_slow_answers_change_nothing() {
        let (mut limit, mut now) = (Limit::new(16..=256, SLOW), Instant::now());
        for _ in 0..100 {
            let place = limit.enter().unwrap();
            now += SLOW * 2;
            limit.leave(place, Answer::Took(SLOW * 2), now);
        }
        assert_eq!(limit.places(), 256);
    }
}
