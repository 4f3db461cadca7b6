use std::time::Duration;

use serde::Deserialize;

use crate::{Invalid, Validate};

/// `[breaker]`: when a service that fails is left alone. Each service that is called has a breaker
/// of its own, and all of them have these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Over how long a time calls are counted, in milliseconds.
    pub window_ms: u64,
    /// Fewer calls than this in that time say nothing.
    pub min_calls: u32,
    /// How many of a hundred calls in that time must have failed for the breaker to open.
    pub failure_percent: u32,
    /// How long no call is made then, in milliseconds. After that one is, and its outcome decides.
    pub open_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { window_ms: 10_000, min_calls: 10, failure_percent: 50, open_ms: 2_000 }
    }
}

impl BreakerConfig {
    pub(super) const fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    pub(super) const fn open(&self) -> Duration {
        Duration::from_millis(self.open_ms)
    }
}

impl Validate for BreakerConfig {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(self.window_ms >= 100, "breaker.window_ms", "must be at least 100")?;
        Invalid::unless(self.min_calls > 0, "breaker.min_calls", "must be at least 1")?;
        let percent = (1..=100).contains(&self.failure_percent);
        Invalid::unless(percent, "breaker.failure_percent", "must be from 1 to 100")?;
        let range = (1..=3_600_000).contains(&self.open_ms);
        Invalid::unless(range, "breaker.open_ms", "must be from 1 to 3600000")
    }
}
