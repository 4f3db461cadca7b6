use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use portolan_kernel::{Clock as _, IdGen, RandomIds, SystemClock};
use uuid::{Builder, Uuid};

/// Ids of UUID version 7 (RFC 9562) of one fixed millisecond, the generator's birth, that count upwards. Two
/// generators never give the same id. Clones continue the same count.
#[derive(Clone, Debug)]
pub struct SeqIds {
    millis: u64,
    seed: [u8; 6],
    count: Arc<AtomicU32>,
}

impl Default for SeqIds {
    fn default() -> Self {
        Self::new()
    }
}

impl SeqIds {
    /// A generator of ids of now, as the inbox wants them.
    pub fn new() -> Self {
        let millis = SystemClock.now().unix_timestamp_nanos() / 1_000_000;
        let random = RandomIds(SystemClock).next().into_bytes();
        let mut seed = [0; 6];
        seed.copy_from_slice(&random[10..]);
        Self { millis: u64::try_from(millis).unwrap_or(0), seed, count: Arc::default() }
    }
}

impl IdGen for SeqIds {
    fn next(&self) -> Uuid {
        let count = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        // What precedes the counter is the same in all ids of this generator.
        let mut bytes = [0; 10];
        bytes[..3].copy_from_slice(&self.seed[..3]);
        bytes[3..7].copy_from_slice(&count);
        bytes[7..].copy_from_slice(&self.seed[3..]);
        Builder::from_unix_timestamp_millis(self.millis, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_seven_and_increase() {
        let ids = SeqIds::new();
        let drawn: Vec<Uuid> = (0..70_000).map(|_| ids.next()).collect();
        assert!(drawn.is_sorted_by(|a, b| a < b));
        assert!(drawn.iter().all(|id| id.get_version_num() == 7));
    }

    #[test]
    fn two_generators_share_no_id() {
        assert_ne!(SeqIds::new().next(), SeqIds::new().next());
    }
}
