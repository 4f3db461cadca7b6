use std::borrow::Cow;

use portolan_kernel::{Coded, ErrorCode, FieldViolation, MoneyError};
use portolan_messaging::HandlerError;
use portolan_runtime::{database, grpc::Remote};

use crate::domain::BasketError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is unacceptable.
    #[error("invalid field {}", .0.field)]
    Field(FieldViolation),
    /// The lines make no order.
    #[error("invalid basket")]
    Basket(#[source] BasketError),
    /// The key was used for another request.
    #[error("idempotency key reused")]
    KeyReused,
    /// Another request of the customer holds the lock.
    #[error("another order of the customer is being placed")]
    UserBusy,
    /// The customer has as many open orders as allowed.
    #[error("open order limit {0} reached")]
    OpenOrderLimit(i32),
    /// A newer holder of the lock was faster.
    #[error("overtaken by a newer holder of the lock")]
    Overtaken,
    /// No such order, or not this customer's.
    #[error("order not found")]
    NotFound,
    /// Decided in favour already.
    #[error("order not cancellable any more")]
    NotCancellable,
    /// Events pile up: nothing new until they drain.
    #[error("the oldest unpublished event is too old")]
    Backlog,
    /// Inventory did not quote.
    #[error("no quote from inventory: {} {}", .0.reason, .0.message)]
    Quote(Remote),
    /// Whether the order was placed is unknown; the same key will tell.
    #[error("the outcome is unknown")]
    Unknown(#[source] sqlx::Error),
    /// The database.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// A transition failed to be written.
    #[error("transition")]
    Transition(#[from] HandlerError),
    /// The service is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

const NAMED: usize = 20;

/// The first few of many.
fn some_of(skus: &[String]) -> String {
    let named = skus.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match skus.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

impl Coded for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Field(_) | Self::Basket(_) => ErrorCode::InvalidArgument,
            Self::KeyReused => ErrorCode::AlreadyExists,
            Self::UserBusy | Self::Overtaken => ErrorCode::Aborted,
            Self::OpenOrderLimit(_) | Self::NotCancellable => ErrorCode::FailedPrecondition,
            Self::NotFound => ErrorCode::NotFound,
            Self::Backlog | Self::Quote(_) | Self::Unknown(_) | Self::ShuttingDown => {
                ErrorCode::Unavailable
            }
            Self::Database(error) if database::is_transient(error) => ErrorCode::Unavailable,
            Self::Transition(HandlerError::Transient(_)) => ErrorCode::Unavailable,
            Self::Database(_) | Self::Transition(_) => ErrorCode::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Field(_) | Self::Basket(BasketError::Fields(_)) => "invalid_argument",
            Self::Basket(BasketError::UnknownSkus(_)) => "unknown_sku",
            Self::Basket(BasketError::Total(MoneyError::MixedCurrencies)) => "mixed_currencies",
            Self::Basket(BasketError::Total(_)) => "no_total",
            Self::KeyReused => "idempotency_key_reused",
            Self::UserBusy | Self::Overtaken => "user_busy",
            Self::OpenOrderLimit(_) => "open_order_limit",
            Self::NotFound => "not_found",
            Self::NotCancellable => "order_not_cancellable",
            Self::Backlog => "events_delayed",
            Self::Quote(_) => "inventory_unavailable",
            Self::Unknown(_) | Self::ShuttingDown => "unavailable",
            Self::Database(_) | Self::Transition(_) => {
                if self.code() == ErrorCode::Unavailable {
                    "unavailable"
                } else {
                    "internal"
                }
            }
        }
    }

    fn public_message(&self) -> Cow<'static, str> {
        match self {
            Self::Field(_) | Self::Basket(BasketError::Fields(_)) => {
                "The request is not valid.".into()
            }
            Self::Basket(BasketError::UnknownSkus(skus)) => {
                format!("Not in the catalogue: {}.", some_of(skus)).into()
            }
            Self::Basket(BasketError::Total(error)) => {
                format!("The order has no total: {error}.").into()
            }
            Self::KeyReused => "The idempotency key was used for another request.".into(),
            Self::UserBusy | Self::Overtaken => {
                "Another order of this customer is being placed; try again with the same key."
                    .into()
            }
            Self::OpenOrderLimit(limit) => {
                format!("No more than {limit} orders may be open at a time.").into()
            }
            Self::NotFound => "There is no such order.".into(),
            Self::NotCancellable => "The order is confirmed and can no longer be cancelled.".into(),
            Self::Unknown(_) => {
                "It is not known whether the order was placed; try again with the same key.".into()
            }
            Self::Backlog | Self::Quote(_) | Self::ShuttingDown => {
                "The service is busy; try again with the same key.".into()
            }
            Self::Database(_) | Self::Transition(_) => {
                if self.code() == ErrorCode::Unavailable {
                    "The service cannot answer now; try again.".into()
                } else {
                    "Something went wrong on our side.".into()
                }
            }
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Field(violation) => vec![violation.clone()],
            Self::Basket(BasketError::Fields(violations)) => violations.clone(),
            Self::Basket(BasketError::UnknownSkus(skus)) => skus
                .iter()
                .map(|sku| FieldViolation {
                    field: "lines.sku".to_owned(),
                    description: format!("{sku} is not in the catalogue"),
                })
                .collect(),
            Self::Basket(BasketError::Total(_))
            | Self::KeyReused
            | Self::UserBusy
            | Self::OpenOrderLimit(_)
            | Self::Overtaken
            | Self::NotFound
            | Self::NotCancellable
            | Self::Backlog
            | Self::Quote(_)
            | Self::Unknown(_)
            | Self::Database(_)
            | Self::Transition(_)
            | Self::ShuttingDown => Vec::new(),
        }
    }

    fn retry_after_secs(&self) -> Option<u32> {
        if let Self::Quote(Remote { retry_after_secs: Some(seconds), .. }) = self {
            return Some(*seconds);
        }
        if matches!(self, Self::Backlog) { Some(5) } else { self.code().retryable().then_some(1) }
    }
}
