use std::sync::Arc;

/// How many calls may be under way, and who gets the next.
///
/// - What was handed over goes first, but leaves a quarter of the slots to the scan while one is
///   due. Otherwise an overload of new orders would keep the table waiting for ever.
/// - Repetitions never take more than half.
#[derive(Debug)]
pub(super) struct Slots {
    total: usize,
    all: Lane,
    handed: Lane,
    repeated: Lane,
}

/// One call's place. It is free again when this is dropped, whatever became of the call.
#[derive(Debug)]
pub(super) struct Slot {
    _passes: [Option<Arc<()>>; 3],
}

/// Counts what is under way by the passes that exist.
#[derive(Debug, Default)]
struct Lane(Arc<()>);

impl Lane {
    fn enter(&self) -> Arc<()> {
        Arc::clone(&self.0)
    }

    fn busy(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

impl Slots {
    pub(super) fn new(total: usize) -> Self {
        Self { total, all: Lane::default(), handed: Lane::default(), repeated: Lane::default() }
    }

    /// How many calls are under way, or answered but not yet written down.
    pub(super) fn busy(&self) -> usize {
        self.all.busy()
    }

    /// How many jobs that were handed over may be begun now.
    pub(super) fn for_handed(&self, scan_due: bool) -> usize {
        let share = if scan_due { self.total - self.total.div_ceil(4) } else { self.total };
        self.free().min(share.saturating_sub(self.handed.busy()))
    }

    /// How many jobs that a scan finds may be begun now. Any of them may be a repetition.
    pub(super) fn for_scan(&self) -> usize {
        self.free().min(self.total.div_ceil(2).saturating_sub(self.repeated.busy()))
    }

    pub(super) fn take(&self, handed: bool, repeated: bool) -> Slot {
        let handed = handed.then(|| self.handed.enter());
        let repeated = repeated.then(|| self.repeated.enter());
        Slot { _passes: [Some(self.all.enter()), handed, repeated] }
    }

    fn free(&self) -> usize {
        self.total.saturating_sub(self.busy())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Hands the free slots out as the worker does, with more work than there are slots.
    fn fill(slots: &Slots, taken: &mut VecDeque<(Slot, bool)>, scan_due: bool) {
        for _ in 0..slots.for_handed(scan_due) {
            taken.push_back((slots.take(true, false), true));
        }
        if scan_due {
            for _ in 0..slots.for_scan() {
                taken.push_back((slots.take(false, false), false));
            }
        }
    }

    #[test]
    fn under_overload_the_scan_has_a_quarter_and_the_rest_goes_to_what_was_handed_over() {
        for total in [4, 7, 8, 32, 1_000] {
            let slots = Slots::new(total);
            let mut taken = VecDeque::new();
            fill(&slots, &mut taken, false);
            assert_eq!(taken.len(), total, "without a scan everything is for what is handed over");
            // From now on a scan is due, and one call at a time ends.
            for _ in 0..2 * total {
                taken.pop_front();
                fill(&slots, &mut taken, true);
                assert_eq!(slots.busy(), total);
            }
            let scanned = taken.iter().filter(|(_, handed)| !handed).count();
            assert_eq!(scanned, total.div_ceil(4), "of {total}");
        }
    }

    #[test]
    fn a_single_slot_serves_the_scan_too() {
        let slots = Slots::new(1);
        assert_eq!((slots.for_handed(true), slots.for_scan()), (0, 1));
        assert_eq!(slots.for_handed(false), 1);
    }

    #[test]
    fn repetitions_take_no_more_than_half() {
        let slots = Slots::new(8);
        let repeated: Vec<Slot> = (0..4).map(|_| slots.take(false, true)).collect();
        assert_eq!((slots.for_scan(), slots.for_handed(false)), (0, 4));
        drop(repeated);
        assert_eq!((slots.for_scan(), slots.for_handed(false), slots.busy()), (4, 8, 0));
    }
}
