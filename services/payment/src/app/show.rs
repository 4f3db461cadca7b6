use std::borrow::Cow;

use portolan_kernel::{Coded, ErrorCode, FieldViolation, OrderId};
use portolan_runtime::database::{self, is_transient};
use sqlx::PgPool;

use crate::store::{self, Row};

/// Why a payment is not shown.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    /// What was asked for is no order id.
    #[error("not an order id")]
    InvalidOrderId,
    /// The order has no payment, or there is no such order.
    #[error("no payment for order {0}")]
    NotFound(OrderId),
    /// The database's part.
    #[error("the payment was not read")]
    Store(#[from] store::Error),
}

impl Coded for NotShown {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidOrderId => ErrorCode::InvalidArgument,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::Store(store::Error::Database(error)) if is_transient(error) => {
                ErrorCode::Unavailable
            }
            Self::Store(_) => ErrorCode::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::InvalidOrderId => "invalid_order_id",
            Self::NotFound(_) => "payment_not_found",
            Self::Store(_) if self.code() == ErrorCode::Unavailable => "unavailable",
            Self::Store(_) => "internal",
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::InvalidOrderId => "The order id is not valid.",
            Self::NotFound(_) => "There is no payment for this order.",
            Self::Store(_) if self.code() == ErrorCode::Unavailable => {
                "Payments cannot be shown at the moment."
            }
            Self::Store(_) => "Something went wrong on our side.",
        })
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::InvalidOrderId => vec![FieldViolation {
                field: "order_id".to_owned(),
                description: "must be a UUID".to_owned(),
            }],
            Self::NotFound(_) | Self::Store(_) => Vec::new(),
        }
    }
}

/// The payment of an order, and what was captured in minor units of its currency.
///
/// # Errors
/// It has none; the database's.
pub async fn show(pool: &PgPool, order: &str) -> Result<(Row, Option<i64>), NotShown> {
    let order = order.parse().map_err(|_| NotShown::InvalidOrderId)?;
    let mut conn = database::acquire(pool).await.map_err(store::Error::from)?;
    let row = store::find(&mut *conn, order).await?.ok_or(NotShown::NotFound(order))?;
    let captured = store::captured(&mut *conn, order).await.map_err(store::Error::from)?;
    Ok((row, captured))
}
