use std::{fmt, str::FromStr};

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;

/// An order's id: a UUIDv7 (RFC 9562), so that ids sort by the time of placing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub Uuid);

/// The text is not a UUID.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not a valid id")]
pub struct ParseIdError;

impl FromStr for OrderId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// New ids as an input, so that tests can foretell them.
pub trait IdGen: fmt::Debug + Send + Sync + 'static {
    /// A new UUIDv7.
    fn next(&self) -> Uuid;
}

/// Ids from a clock and the operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds<C>(pub C);

impl<C: Clock> IdGen for RandomIds<C> {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws random ids")]
    fn next(&self) -> Uuid {
        let millis = self.0.now().unix_timestamp_nanos() / 1_000_000;
        let bytes: [u8; 10] = rand::rng().random();
        uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), &bytes)
            .into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemClock;

    #[test]
    fn new_ids_are_version_seven_and_differ() {
        let ids = RandomIds(SystemClock);
        let (a, b) = (ids.next(), ids.next());
        assert_eq!(a.get_version_num(), 7);
        assert_ne!(a, b);
    }

    #[test]
    fn an_order_id_survives_its_text_form() {
        let id = OrderId(RandomIds(SystemClock).next());
        assert_eq!(id.to_string().parse::<OrderId>().unwrap(), id);
        assert!("order-1".parse::<OrderId>().is_err());
    }
}
