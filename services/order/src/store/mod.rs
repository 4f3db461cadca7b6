//! The only SQL of the order service. Every function runs in the caller's transaction.

pub mod guards;
pub mod orders;
pub mod placement;
pub mod timeline;

use portolan_kernel::OrderId;
use portolan_proto::{common::v1 as common, order::v1 as proto};
use time::OffsetDateTime;

use crate::domain::{Order, PricedLine, Reason, State};

/// A stored order.
#[derive(Clone, Debug)]
pub struct OrderRow {
    /// The id.
    pub id: OrderId,
    /// The customer.
    pub user_id: String,
    /// What the state machine knows.
    pub order: Order,
    /// The sum of the lines in minor units.
    pub amount_minor: i64,
    /// The currency of amount and prices.
    pub currency: String,
    /// What was ordered.
    pub lines: Vec<PricedLine>,
    /// When it is cancelled unless confirmed before.
    pub deadline: OffsetDateTime,
    /// The trace of its placing.
    pub traceparent: String,
    /// When it was placed.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// A row that contradicts what the code believes about the schema.
#[derive(Debug, thiserror::Error)]
#[error("column {column} holds {value:?}")]
pub(crate) struct CorruptRow {
    pub(crate) column: &'static str,
    pub(crate) value: String,
}

/// Reads the names that the database holds.
pub(crate) fn read_state(
    state: &str,
    reason: Option<&str>,
) -> Result<(State, Option<Reason>), sqlx::Error> {
    let corrupt = |column, value: &str| {
        sqlx::Error::Decode(Box::new(CorruptRow { column, value: value.to_owned() }))
    };
    let state = state.parse().map_err(|_| corrupt("state", state))?;
    let reason =
        reason.map(|reason| reason.parse().map_err(|_| corrupt("reason", reason))).transpose()?;
    Ok((state, reason))
}

pub(crate) fn lines_to_json(lines: &[PricedLine]) -> serde_json::Value {
    lines
        .iter()
        .map(|line| {
            serde_json::json!({
                "sku": line.sku, "quantity": line.quantity, "unit_price_minor": line.unit_price_minor,
            })
        })
        .collect()
}

#[derive(serde::Deserialize)]
struct StoredLine {
    sku: String,
    quantity: u32,
    unit_price_minor: i64,
}

pub(crate) fn lines_from_json(lines: serde_json::Value) -> Result<Vec<PricedLine>, sqlx::Error> {
    let lines: Vec<StoredLine> =
        serde_json::from_value(lines).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(lines
        .into_iter()
        .map(|StoredLine { sku, quantity, unit_price_minor }| PricedLine {
            sku,
            quantity,
            unit_price_minor,
        })
        .collect())
}

impl OrderRow {
    /// The order as the API shows it.
    pub fn to_proto(&self) -> proto::Order {
        proto::Order {
            id: self.id.to_string(),
            user_id: self.user_id.clone(),
            status: status(self.order.state).into(),
            cancel_reason: self
                .order
                .reason
                .map_or(proto::CancelReason::Unspecified, cancel_reason)
                .into(),
            amount: Some(self.amount()),
            lines: self.lines.iter().map(priced_line).collect(),
            version: self.order.version,
            created_at: Some(timestamp(self.created_at)),
            updated_at: Some(timestamp(self.updated_at)),
            deadline: Some(timestamp(self.deadline)),
        }
    }

    /// The amount.
    pub fn amount(&self) -> common::Money {
        common::Money { minor_units: self.amount_minor, currency: self.currency.clone() }
    }
}

/// A line as the contracts have it.
pub fn priced_line(line: &PricedLine) -> common::PricedLine {
    common::PricedLine {
        sku: line.sku.clone(),
        quantity: line.quantity,
        unit_price_minor: line.unit_price_minor,
    }
}

/// A time as the contracts have it.
pub fn timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or(0),
    }
}

const fn status(state: State) -> proto::OrderStatus {
    match state {
        State::Pending => proto::OrderStatus::Pending,
        State::AwaitingPayment => proto::OrderStatus::AwaitingPayment,
        State::Confirmed => proto::OrderStatus::Confirmed,
        State::Completed => proto::OrderStatus::Completed,
        State::Cancelled => proto::OrderStatus::Cancelled,
    }
}

/// A reason as the contracts have it.
pub const fn cancel_reason(reason: Reason) -> proto::CancelReason {
    match reason {
        Reason::OutOfStock => proto::CancelReason::OutOfStock,
        Reason::PaymentDeclined => proto::CancelReason::PaymentDeclined,
        Reason::Timeout => proto::CancelReason::Timeout,
        Reason::Customer => proto::CancelReason::Customer,
        Reason::CaptureFailed => proto::CancelReason::CaptureFailed,
    }
}
