use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Into how many parts the window is divided; it moves on by one of them at a time.
pub(super) const SLOTS: u32 = 10;

/// How many calls have ended lately, and how many of them failed.
#[derive(Clone, Debug)]
pub(super) struct Window {
    began: Instant,
    slot: Duration,
    /// Those in which a call ended, the oldest first.
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u128,
    tally: Tally,
}

/// Calls that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u32,
    pub(super) failed: u32,
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let slot = (length / SLOTS).max(Duration::from_nanos(1));
        Self { began: now, slot, slots: VecDeque::new() }
    }

    /// Takes in a call that has ended now, and says what the window holds with it.
    pub(super) fn count(&mut self, failed: bool, now: Instant) -> Tally {
        let number = now.duration_since(self.began).as_nanos() / self.slot.as_nanos();
        self.slots.retain(|slot| slot.number + u128::from(SLOTS) > number);
        if self.slots.back().is_none_or(|slot| slot.number != number) {
            self.slots.push_back(Slot { number, tally: Tally::default() });
        }
        if let Some(Slot { tally, .. }) = self.slots.back_mut() {
            tally.calls = tally.calls.saturating_add(1);
            tally.failed = tally.failed.saturating_add(u32::from(failed));
        }
        self.slots.iter().fold(Tally::default(), |sum, Slot { tally, .. }| Tally {
            calls: sum.calls.saturating_add(tally.calls),
            failed: sum.failed.saturating_add(tally.failed),
        })
    }
}
