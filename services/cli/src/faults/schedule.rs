//! What is done to the shop, and when: a pure function of seed, length and kinds, so that a run can
//! be repeated.

use std::{collections::BTreeSet, fmt, time::Duration};

use clap::ValueEnum;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};

/// The load runs undisturbed for so long: what comes later is compared with it.
pub(super) const WARM_UP: Duration = Duration::from_secs(14);
/// So long before the end the last fault is over.
const TAIL: Duration = Duration::from_secs(8);
/// Between the end of a fault and the next one, in milliseconds.
const GAP_MS: std::ops::Range<u64> = 6_000..11_000;
/// One fault in so many begins while the one before it lasts.
const OVERLAP: u32 = 5;

/// What can go wrong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// SIGKILL of a service's replica or of the provider.
    Kill,
    /// SIGSTOP of one for less than its session.
    Pause,
    /// SIGSTOP of one for longer than its session.
    LongPause,
    /// PostgreSQL ends, in order or by a crash, and is started again.
    PostgresRestart,
    /// The connections of one service are ended in the moment of their commit.
    ConnectionsCut,
    /// One service's database has no space left.
    DiskFull,
    /// The broker is killed, or stops in order, and is started again.
    BrokerRestart,
    /// SIGSTOP of the broker.
    BrokerPause,
    /// One, two or three Redis masters are killed and cannot be reached.
    RedisDown,
    /// FLUSHALL on one, two or three masters.
    RedisFlush,
    /// SIGSTOP of one, two or three masters.
    RedisPause,
    /// A whole topic is written once more.
    Duplicates,
    /// Records of all topics are written once more in the reverse order.
    Reordering,
    /// A record that cannot be applied.
    Poison,
    /// A consumer group begins at the beginning of its topics.
    GroupReset,
    /// A stranger joins and leaves a consumer group again and again.
    Rebalances,
    /// The clock of one replica, of the provider or of a Redis master jumps, and later jumps back.
    ClockStep,
    /// Whatever goes to PostgreSQL, Kafka, Redis or the provider, and comes back, takes longer.
    NetworkSlow,
    /// Connections to one of them are reset, new ones, too.
    NetworkReset,
    /// Nothing arrives at one of them or comes back, and nobody says so.
    NetworkSilent,
}

impl Kind {
    /// What it can be done to.
    fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Kill | Self::Pause | Self::LongPause => &PROCESSES,
            Self::PostgresRestart => &["restart", "crash"],
            Self::ConnectionsCut | Self::DiskFull => {
                &["order", "inventory", "payment", "notification", "psp"]
            }
            Self::BrokerRestart => &["kill", "stop"],
            Self::BrokerPause => &["kafka"],
            Self::RedisDown | Self::RedisFlush | Self::RedisPause => &["1", "2", "3"],
            Self::Duplicates | Self::GroupReset | Self::Rebalances => {
                &["order", "inventory", "payment", "notification"]
            }
            Self::Reordering => &["topics"],
            Self::Poison => &["order", "inventory", "payment", "stranger-order"],
            Self::ClockStep => &CLOCKS,
            Self::NetworkSlow | Self::NetworkReset | Self::NetworkSilent => {
                &["postgres", "kafka", "psp", "redis-1", "order", "inventory"]
            }
        }
    }

    /// How long it lasts, in milliseconds; none for what is over at once.
    const fn lasts_ms(self) -> Option<std::ops::Range<u64>> {
        match self {
            Self::Kill
            | Self::PostgresRestart
            | Self::BrokerRestart
            | Self::RedisFlush
            | Self::Duplicates
            | Self::Reordering
            | Self::Poison
            | Self::GroupReset => None,
            Self::Pause => Some(300..2_500),
            Self::LongPause => Some(11_000..14_000),
            Self::ConnectionsCut | Self::NetworkReset => Some(500..3_000),
            Self::BrokerPause | Self::NetworkSilent => Some(2_000..8_000),
            Self::RedisDown | Self::RedisPause | Self::ClockStep => Some(1_000..5_000),
            Self::Rebalances | Self::NetworkSlow | Self::DiskFull => Some(2_000..6_000),
        }
    }

    /// As the command line and the tables have it.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Every replica of every service, and the provider.
const PROCESSES: [&str; 11] = [
    "gateway",
    "gateway-2",
    "order",
    "order-2",
    "inventory",
    "inventory-2",
    "payment",
    "payment-2",
    "notification",
    "notification-2",
    "psp",
];

/// Whose clock jumps, and by how many seconds: in services by less than tokens are allowed to be
/// early, and than orders have until their deadline; in Redis by many times what a lock is held.
const CLOCKS: [&str; 14] = [
    "gateway:+20",
    "gateway-2:-20",
    "order:+20",
    "order-2:-20",
    "inventory:-20",
    "inventory-2:+20",
    "payment:+20",
    "payment-2:-20",
    "notification:-20",
    "notification-2:+20",
    "psp:+20",
    "redis-1:+600",
    "redis-2:-600",
    "redis-3:+600",
];

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// From the start of the load to its beginning, in milliseconds.
    pub(super) at_ms: u64,
    pub(super) kind: Kind,
    pub(super) target: String,
    /// How long it lasts; 0 for what is over at once.
    pub(super) lasts_ms: u64,
}

impl Fault {
    pub(super) const fn at(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }

    pub(super) const fn lasts(&self) -> Duration {
        Duration::from_millis(self.lasts_ms)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at().as_secs_f64(), self.lasts().as_secs_f64());
        write!(f, "{at:>7.1} s  {:<18} {:<16}", self.kind.name(), self.target)?;
        if self.lasts_ms > 0 { write!(f, " for {lasts:.1} s") } else { Ok(()) }
    }
}

/// The faults of a run, by time.
pub(super) fn schedule(seed: u64, length: Duration, only: &BTreeSet<Kind>) -> Vec<Fault> {
    let mut dealer = Dealer::new(seed, only);
    let end = length.saturating_sub(TAIL).as_millis().try_into().unwrap_or(u64::MAX);
    let mut at_ms: u64 = WARM_UP.as_millis().try_into().unwrap_or(u64::MAX);
    let mut faults = Vec::new();
    while let Some(fault) = dealer.deal(at_ms) {
        let over = at_ms + fault.lasts_ms;
        if over > end {
            break;
        }
        at_ms = dealer.next(&fault);
        faults.push(fault);
    }
    faults
}

/// Deals kinds like cards: each comes once before any comes again.
struct Dealer {
    rng: StdRng,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
}

impl Dealer {
    fn new(seed: u64, only: &BTreeSet<Kind>) -> Self {
        let wanted = |kind: &Kind| only.is_empty() || only.contains(kind);
        let kinds = Kind::value_variants().iter().copied().filter(wanted).collect();
        Self { rng: StdRng::seed_from_u64(seed), kinds, deck: Vec::new() }
    }

    fn deal(&mut self, at_ms: u64) -> Option<Fault> {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.deck.shuffle(&mut self.rng);
        }
        let kind = self.deck.pop()?;
        let targets = kind.targets();
        let target = targets.get(self.rng.random_range(0..targets.len()))?;
        let lasts_ms = kind.lasts_ms().map_or(0, |range| self.rng.random_range(range));
        Some(Fault { at_ms, kind, target: (*target).to_owned(), lasts_ms })
    }

    /// When the fault behind this one begins.
    fn next(&mut self, fault: &Fault) -> u64 {
        let gap = self.rng.random_range(GAP_MS);
        if fault.lasts_ms > 0 && self.rng.random_range(0..OVERLAP) == 0 {
            return fault.at_ms + fault.lasts_ms / 2;
        }
        fault.at_ms + fault.lasts_ms + gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn kinds(faults: &[Fault]) -> BTreeSet<Kind> {
        faults.iter().map(|fault| fault.kind).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
        let all = BTreeSet::new();
        let first = schedule(7, MINUTE, &all);
        assert!(!first.is_empty());
        assert_eq!(first, schedule(7, MINUTE, &all));
        assert_ne!(first, schedule(8, MINUTE, &all));
    }

    #[test]
    fn every_kind_appears_in_a_long_run_and_in_a_row_of_short_ones() {
        let every: BTreeSet<Kind> = Kind::value_variants().iter().copied().collect();
        let all = BTreeSet::new();
        assert_eq!(kinds(&schedule(1, MINUTE * 15, &all)), every);
        let short = (1..=40).flat_map(|seed| schedule(seed, MINUTE, &all));
        assert_eq!(kinds(&short.collect::<Vec<_>>()), every);
    }

    #[test]
    fn only_the_wanted_kinds_appear_and_every_fault_is_over_before_the_end() {
        let only = BTreeSet::from([Kind::LongPause]);
        for seed in 0..50 {
            let faults = schedule(seed, MINUTE, &only);
            assert!(!faults.is_empty() && kinds(&faults) == only, "{seed}");
            assert!(faults.iter().all(|fault| fault.at() >= WARM_UP));
            assert!(faults.iter().all(|fault| fault.at() + fault.lasts() + TAIL <= MINUTE));
        }
    }
}
