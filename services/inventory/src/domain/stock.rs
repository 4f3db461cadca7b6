//! The shelves: how many of each SKU there are, and the ledger entry of every change.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Sku;

/// A SKU and how many of it an order takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The product.
    pub sku: Sku,
    /// How many, at least 1.
    pub quantity: u32,
}

/// The stock of one SKU. What is on hand is the sum of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How many can be ordered.
    pub available: i64,
    /// How many are set aside for orders that are not decided yet.
    pub reserved: i64,
}

impl Level {
    /// How many there are at all.
    pub const fn on_hand(self) -> i64 {
        self.available + self.reserved
    }
}

/// Why a level changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The SKU's opening stock.
    Initial,
    /// An import raised it.
    Restock,
    /// An order set goods aside.
    Reserve,
    /// The order was confirmed: the goods left.
    Commit,
    /// The order was cancelled: the goods are available again.
    Release,
}

impl Kind {
    /// The name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Restock => "restock",
            Self::Reserve => "reserve",
            Self::Commit => "commit",
            Self::Release => "release",
        }
    }
}

/// A ledger entry: by how much a SKU's level changed, why, and because of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The order, or the import.
    pub cause: Uuid,
    /// The product.
    pub sku: Sku,
    /// Why.
    pub kind: Kind,
    /// The change of `available`.
    pub available: i64,
    /// The change of `reserved`.
    pub reserved: i64,
}

/// The levels of the SKUs that a batch touches, held in memory while their rows are locked.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    levels: BTreeMap<Sku, Level>,
    changed: BTreeSet<Sku>,
}

impl Levels {
    /// The levels as they are stored.
    pub fn new(levels: impl IntoIterator<Item = (Sku, Level)>) -> Self {
        Self { levels: levels.into_iter().collect(), changed: BTreeSet::new() }
    }

    /// The level of a SKU, if it is in the catalogue.
    pub fn get(&self, sku: &Sku) -> Option<Level> {
        self.levels.get(sku).copied()
    }

    /// The levels that are no longer as they were stored, by SKU.
    pub fn changed(&self) -> impl Iterator<Item = (&Sku, Level)> {
        self.changed.iter().filter_map(|sku| self.get(sku).map(|level| (sku, level)))
    }

    /// Sets every line aside, or changes nothing and names the first SKU, in byte order, of which
    /// there is not enough. The lines name each SKU once.
    ///
    /// # Errors
    /// The first missing SKU.
    pub fn reserve(&mut self, cause: Uuid, lines: &[Line]) -> Result<Vec<Entry>, Sku> {
        let short = |line: &&Line| {
            self.levels.get(&line.sku).is_none_or(|l| l.available < i64::from(line.quantity))
        };
        match lines.iter().filter(short).map(|line| &line.sku).min() {
            Some(missing) => Err(missing.clone()),
            None => Ok(self.change(cause, Kind::Reserve, lines, |quantity| (-quantity, quantity))),
        }
    }

    /// The goods that were set aside leave the stock.
    pub fn commit(&mut self, cause: Uuid, lines: &[Line]) -> Vec<Entry> {
        self.change(cause, Kind::Commit, lines, |quantity| (0, -quantity))
    }

    /// The goods that were set aside are available again.
    pub fn release(&mut self, cause: Uuid, lines: &[Line]) -> Vec<Entry> {
        self.change(cause, Kind::Release, lines, |quantity| (quantity, -quantity))
    }

    /// The goods that had left come back.
    pub fn restock(&mut self, cause: Uuid, lines: &[Line]) -> Vec<Entry> {
        self.change(cause, Kind::Release, lines, |quantity| (quantity, 0))
    }

    fn change(
        &mut self,
        cause: Uuid,
        kind: Kind,
        lines: &[Line],
        delta: impl Fn(i64) -> (i64, i64),
    ) -> Vec<Entry> {
        lines
            .iter()
            .map(|Line { sku, quantity }| {
                let (available, reserved) = delta(i64::from(*quantity));
                let level = self.levels.entry(sku.clone()).or_default();
                level.available += available;
                level.reserved += reserved;
                self.changed.insert(sku.clone());
                Entry { cause, sku: sku.clone(), kind, available, reserved }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sku(text: &str) -> Sku {
        text.parse().unwrap()
    }

    fn line(text: &str, quantity: u32) -> Line {
        Line { sku: sku(text), quantity }
    }

    fn shelves() -> Levels {
        Levels::new(
            [("a", 5), ("b", 3)].map(|(s, available)| (sku(s), Level { available, reserved: 0 })),
        )
    }

    #[test]
    fn a_short_order_changes_nothing_and_names_the_first_missing_sku_in_byte_order() {
        let mut levels = shelves();
        let lines = [line("zzz", 1), line("b", 4), line("a", 5)];
        assert_eq!(levels.reserve(Uuid::nil(), &lines), Err(sku("b")));
        assert_eq!(levels.changed().count(), 0);
        assert_eq!(levels.get(&sku("a")), Some(Level { available: 5, reserved: 0 }));
    }

    #[test]
    fn the_last_piece_can_be_reserved_once() {
        let mut levels = shelves();
        assert!(levels.reserve(Uuid::nil(), &[line("b", 3)]).is_ok());
        assert_eq!(levels.reserve(Uuid::nil(), &[line("b", 1)]), Err(sku("b")));
    }

    #[test]
    fn goods_that_left_and_came_back_are_available_as_before() {
        let mut levels = shelves();
        let lines = [line("a", 2)];
        levels.reserve(Uuid::nil(), &lines).unwrap();
        assert_eq!(levels.get(&sku("a")), Some(Level { available: 3, reserved: 2 }));
        levels.commit(Uuid::nil(), &lines);
        assert_eq!(levels.get(&sku("a")), Some(Level { available: 3, reserved: 0 }));
        levels.restock(Uuid::nil(), &lines);
        assert_eq!(levels.get(&sku("a")), Some(Level { available: 5, reserved: 0 }));
    }
}
