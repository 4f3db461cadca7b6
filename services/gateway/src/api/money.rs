use portolan_proto::common::v1 as common;
use prost_types::Timestamp;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::problem::Problem;

/// An amount of money in whole minor units, never a fraction.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Money {
    /// Minor units of the currency: pence, cents.
    #[schema(example = 1299)]
    pub(crate) minor_units: i64,
    /// ISO 4217 code.
    #[schema(pattern = "^[A-Z]{3}$", example = "GBP")]
    pub(crate) currency: String,
}

impl From<common::Money> for Money {
    fn from(money: common::Money) -> Self {
        Self { minor_units: money.minor_units, currency: money.currency }
    }
}

/// A part that the services always send.
pub(crate) fn required<T>(part: Option<T>, name: &'static str) -> Result<T, Problem> {
    part.ok_or_else(|| broken(name))
}

/// A service broke its contract.
pub(crate) fn broken(name: &'static str) -> Problem {
    tracing::error!(part = name, "a service's answer is incomplete or unknown");
    Problem::internal()
}

/// The time of a message.
pub(crate) fn time(
    timestamp: Option<Timestamp>,
    name: &'static str,
) -> Result<OffsetDateTime, Problem> {
    optional_time(timestamp, name)?.ok_or_else(|| broken(name))
}

/// The time of a message, if it has one.
pub(crate) fn optional_time(
    timestamp: Option<Timestamp>,
    name: &'static str,
) -> Result<Option<OffsetDateTime>, Problem> {
    let convert = |timestamp: Timestamp| {
        let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
        OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| broken(name))
    };
    timestamp.map(convert).transpose()
}
