//! The orders of a run: those of the week that comes with Portolan, with every kind of card, some
//! of them for something that there is little of. A pure function of the seed.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    catalogue::{Catalogue, Product},
    replay::Orders,
};

/// Cards and how many of a hundred orders are paid with them; the rest is paid with good ones.
const CARDS: [(&str, u32); 6] = [
    ("tok_declined", 6),
    ("tok_late", 6),
    ("tok_error", 6),
    ("tok_flaky", 6),
    ("tok_capture_fails", 4),
    ("tok_hang", 4),
];
/// Of a hundred orders: those that want what there is little of, are sent twice at once, are sent
/// again after they were accepted, and are cancelled.
const HOT: u32 = 10;
const TWICE: u32 = 15;
const AGAIN: u32 = 10;
const CANCELLED: u32 = 12;
/// How long the customer takes to change their mind, in milliseconds.
const SECOND_THOUGHTS_MS: std::ops::Range<u64> = 0..1_500;
/// What there is little of: the first product of the catalogue. Fewer than are wanted.
const HOT_LEFT_OF_WANTED: f64 = 0.6;
/// Pieces of everything else.
const PLENTY: i64 = 1_000_000;

/// One order and what its customer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) user: String,
    pub(super) key: String,
    pub(super) lines: Vec<(String, u32)>,
    pub(super) card: String,
    /// Sends the same request to two gateways at once.
    pub(super) twice: bool,
    /// Sends it again after it was accepted.
    pub(super) again: bool,
    /// Cancels it so long after it was accepted, twice at once.
    pub(super) cancel_after: Option<Duration>,
}

/// All orders of a run, and what the shop has to sell.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) orders: Vec<Planned>,
    pub(super) catalogue: Catalogue,
    hot: String,
    hot_stock: i64,
}

/// An order that is completed if anything is.
pub(super) fn first(seed: u64, catalogue: &Catalogue) -> Planned {
    let lines = catalogue.products.keys().next_back().map(|sku| (sku.clone(), 1));
    Planned {
        user: "first".to_owned(),
        key: format!("faults-{seed}-first"),
        lines: lines.into_iter().collect(),
        card: format!("tok_ok_{seed}_first"),
        twice: false,
        again: false,
        cancel_after: None,
    }
}

impl Plan {
    /// `count` orders.
    ///
    /// # Errors
    /// The files that come with Portolan cannot be read.
    pub(super) fn new(seed: u64, count: usize) -> anyhow::Result<Self> {
        let catalogue = Catalogue::read(None)?;
        let week = Orders::read(None, usize::MAX, &catalogue)?.placed;
        let hot = catalogue.products.keys().next().cloned().unwrap_or_default();
        let mut rng = StdRng::seed_from_u64(seed);
        let first = rng.random_range(0..week.len());
        let real = week.iter().cycle().skip(first).take(count);
        let orders: Vec<Planned> = (0..)
            .zip(real)
            .map(|(number, order)| {
                let mut lines: Vec<(String, u32)> = order.lines.clone().into_iter().collect();
                if chance(&mut rng, HOT) {
                    lines = vec![(hot.clone(), rng.random_range(1..=3))];
                }
                planned(&mut rng, (seed, number), &order.customer, lines)
            })
            .collect();
        let hot_stock = little(&orders, &hot);
        Ok(Self { seed, orders, catalogue, hot, hot_stock })
    }

    /// More of a product than there is at the beginning.
    pub(super) fn too_much(&self) -> Vec<(String, u32)> {
        let quantity = u32::try_from(self.hot_stock + 1).unwrap_or(u32::MAX);
        vec![(self.hot.clone(), quantity)]
    }

    /// Pieces of a product at the beginning.
    pub(super) fn stock(&self, product: &Product) -> i64 {
        if product.sku == self.hot { self.hot_stock } else { PLENTY }
    }
}

fn planned(
    rng: &mut StdRng,
    (seed, number): (u64, usize),
    customer: &str,
    lines: Vec<(String, u32)>,
) -> Planned {
    Planned {
        user: customer.to_owned(),
        key: format!("faults-{seed}-{number}"),
        lines,
        card: format!("{}_{seed}_{number}", card(rng.random_range(0..100))),
        twice: chance(rng, TWICE),
        again: chance(rng, AGAIN),
        cancel_after: chance(rng, CANCELLED)
            .then(|| Duration::from_millis(rng.random_range(SECOND_THOUGHTS_MS))),
    }
}

fn chance(rng: &mut StdRng, of_a_hundred: u32) -> bool {
    rng.random_range(0..100) < of_a_hundred
}

/// The card that a number below 100 stands for.
fn card(mut number: u32) -> &'static str {
    for (card, share) in CARDS {
        if number < share {
            return card;
        }
        number -= share;
    }
    "tok_ok"
}

#[expect(clippy::cast_possible_truncation, reason = "a number of pieces")]
fn little(orders: &[Planned], hot: &str) -> i64 {
    let lines = orders.iter().flat_map(|order| &order.lines);
    let wanted: u32 = lines.filter(|(sku, _)| sku == hot).map(|(_, quantity)| quantity).sum();
    (f64::from(wanted) * HOT_LEFT_OF_WANTED).ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_orders() {
        let (first, second) = (Plan::new(3, 50).unwrap(), Plan::new(3, 50).unwrap());
        assert_eq!(first.orders, second.orders);
        assert_ne!(first.orders, Plan::new(4, 50).unwrap().orders);
    }

    #[test]
    fn every_card_is_used_and_the_scarce_product_does_not_suffice() {
        let plan = Plan::new(1, 1_000).unwrap();
        let used = |card: &str| plan.orders.iter().any(|order| order.card.starts_with(card));
        assert!(CARDS.into_iter().all(|(card, _)| used(card)) && used("tok_ok"));
        let wanted: u32 = plan
            .orders
            .iter()
            .flat_map(|o| &o.lines)
            .filter(|(sku, _)| *sku == plan.hot)
            .map(|(_, n)| n)
            .sum();
        assert!(plan.hot_stock > 0 && plan.hot_stock < i64::from(wanted));
    }
}
