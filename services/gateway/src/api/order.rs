use portolan_proto::{common::v1::PricedLine, order::v1 as proto};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::money::{Money, broken, required, time};
use crate::problem::Problem;

/// Where an order stands. `COMPLETED` and `CANCELLED` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum OrderStatus {
    /// Placed; stock is not yet reserved.
    Pending,
    /// Stock is reserved; the payment is being authorised.
    AwaitingPayment,
    /// Decided in favour: stock is being committed and the money captured.
    Confirmed,
    /// Goods committed and money captured.
    Completed,
    /// Decided against; everything done so far is undone.
    Cancelled,
}

impl OrderStatus {
    /// The status of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "PENDING" => Some(Self::Pending),
            "AWAITING_PAYMENT" => Some(Self::AwaitingPayment),
            "CONFIRMED" => Some(Self::Confirmed),
            "COMPLETED" => Some(Self::Completed),
            "CANCELLED" => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// Whether the order will never change again.
    pub(crate) const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::AwaitingPayment | Self::Confirmed => false,
            Self::Completed | Self::Cancelled => true,
        }
    }
}

impl From<OrderStatus> for proto::OrderStatus {
    fn from(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Pending => Self::Pending,
            OrderStatus::AwaitingPayment => Self::AwaitingPayment,
            OrderStatus::Confirmed => Self::Confirmed,
            OrderStatus::Completed => Self::Completed,
            OrderStatus::Cancelled => Self::Cancelled,
        }
    }
}

fn status(order: &proto::Order) -> Result<OrderStatus, Problem> {
    match order.status() {
        proto::OrderStatus::Pending => Ok(OrderStatus::Pending),
        proto::OrderStatus::AwaitingPayment => Ok(OrderStatus::AwaitingPayment),
        proto::OrderStatus::Confirmed => Ok(OrderStatus::Confirmed),
        proto::OrderStatus::Completed => Ok(OrderStatus::Completed),
        proto::OrderStatus::Cancelled => Ok(OrderStatus::Cancelled),
        proto::OrderStatus::Unspecified => Err(broken("order.status")),
    }
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum CancelReason {
    /// Not every line was in stock.
    OutOfStock,
    /// The payment provider declined.
    PaymentDeclined,
    /// The deadline passed before the payment was authorised.
    Timeout,
    /// The customer asked for it.
    Customer,
    /// The provider permanently refused to capture the authorised payment.
    CaptureFailed,
}

fn cancel_reason(order: &proto::Order) -> Option<CancelReason> {
    match order.cancel_reason() {
        proto::CancelReason::Unspecified => None,
        proto::CancelReason::OutOfStock => Some(CancelReason::OutOfStock),
        proto::CancelReason::PaymentDeclined => Some(CancelReason::PaymentDeclined),
        proto::CancelReason::Timeout => Some(CancelReason::Timeout),
        proto::CancelReason::Customer => Some(CancelReason::Customer),
        proto::CancelReason::CaptureFailed => Some(CancelReason::CaptureFailed),
    }
}

/// An order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Order {
    /// The order's id, a `UUIDv7`.
    #[schema(format = Uuid)]
    pub(crate) id: String,
    /// Where it stands.
    pub(crate) status: OrderStatus,
    /// Why it was cancelled, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<CancelReason>,
    /// The customer.
    #[schema(example = "alice")]
    user_id: String,
    /// The sum of all lines.
    amount: Money,
    /// What was bought: merged by SKU, in the SKU's byte order.
    lines: Vec<OrderLine>,
    /// Counts the order's transitions from 1.
    #[schema(minimum = 1)]
    pub(crate) version: i64,
    /// When it was placed.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// When it is cancelled unless it is confirmed before.
    #[serde(with = "time::serde::rfc3339")]
    deadline: OffsetDateTime,
}

/// One product of an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OrderLine {
    /// The product.
    #[schema(example = "85123A")]
    sku: String,
    /// How many.
    #[schema(minimum = 1, maximum = 100_000)]
    quantity: u32,
    /// The price of one when the order was placed.
    unit_price: Money,
}

impl OrderLine {
    fn new(line: PricedLine, currency: &str) -> Self {
        let unit_price =
            Money { minor_units: line.unit_price_minor, currency: currency.to_owned() };
        Self { sku: line.sku, quantity: line.quantity, unit_price }
    }
}

impl TryFrom<proto::Order> for Order {
    type Error = Problem;

    fn try_from(order: proto::Order) -> Result<Self, Problem> {
        let (status, cancel_reason) = (status(&order)?, cancel_reason(&order));
        let amount = Money::from(required(order.amount, "order.amount")?);
        let line = |line| OrderLine::new(line, &amount.currency);
        Ok(Self {
            lines: order.lines.into_iter().map(line).collect(),
            id: order.id,
            status,
            cancel_reason,
            user_id: order.user_id,
            amount,
            version: order.version,
            created_at: time(order.created_at, "order.created_at")?,
            updated_at: time(order.updated_at, "order.updated_at")?,
            deadline: time(order.deadline, "order.deadline")?,
        })
    }
}

/// The order that an answer carries.
pub(crate) fn carried(order: Option<proto::Order>) -> Result<Order, Problem> {
    required(order, "order")?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_statuses_agree_with_the_json() {
        for name in ["PENDING", "AWAITING_PAYMENT", "CONFIRMED", "COMPLETED", "CANCELLED"] {
            let status = OrderStatus::from_name(name).unwrap();
            assert_eq!(serde_json::to_value(status).unwrap(), name);
            let there = proto::OrderStatus::from(status);
            assert_eq!(there.as_str_name(), format!("ORDER_STATUS_{name}"));
            let order = proto::Order { status: there.into(), ..proto::Order::default() };
            assert_eq!(super::status(&order).unwrap(), status);
        }
        assert!(OrderStatus::from_name("pending").is_none());
    }
}
