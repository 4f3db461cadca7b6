//! The consumer of the order topic: reads the ends of orders and hands them to the use case.

use std::sync::Arc;

use portolan_kernel::{Clock, Currency, IdGen, Money};
use portolan_messaging::{Group, Handler, HandlerError, Record};
use portolan_proto::{
    events::v1::{OrderCancelled, OrderCompleted},
    order::v1::CancelReason,
};
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use tokio::sync::Notify;
use tracing::Span;

use crate::{
    app::{self, Ended, Mode},
    domain::Ending,
};

/// The service's consumer group.
pub const GROUP: Group = Group { id: 4, name: "notification" };

/// Creates notifications when orders end.
#[derive(Debug)]
pub struct OrderHandler {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    mode: Mode,
    worker: Arc<Notify>,
}

impl OrderHandler {
    /// A handler that takes time and ids from these, and notifies the worker.
    pub fn new(
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGen>,
        mode: Mode,
        worker: Arc<Notify>,
    ) -> Self {
        Self { clock, ids, mode, worker }
    }
}

impl Handler for OrderHandler {
    /// How many notifications are new.
    type Applied = u64;

    async fn apply(&self, tx: &mut PgConnection, records: &[Record]) -> Result<u64, HandlerError> {
        let read: Result<Vec<(Ended, Span)>, HandlerError> =
            records.iter().filter_map(|record| read(record).transpose()).collect();
        // The spans are open until everything is written.
        let (ended, _spans): (Vec<Ended>, Vec<Span>) = read?.into_iter().unzip();
        if ended.is_empty() {
            return Ok(0);
        }
        app::record_endings(tx, self.clock.as_ref(), self.ids.as_ref(), self.mode, ended).await
    }

    fn committed(&self, new: u64) {
        metrics::counter!("portolan_notifications_created_total").increment(new);
        if new > 0 {
            self.worker.notify_one();
        }
    }
}

/// The end that a record tells of, and the span that handles it; `None` if the order goes on.
fn read(record: &Record) -> Result<Option<(Ended, Span)>, HandlerError> {
    let (order_id, user_id, ending) = if record.is::<OrderCompleted>() {
        let event: OrderCompleted = record.decode()?;
        let amount = event.amount.ok_or_else(|| invalid("amount is missing"))?;
        let currency: Currency =
            amount.currency.parse().map_err(|_| invalid("the currency is not a currency"))?;
        let paid = Money::new(amount.minor_units, currency);
        (event.order_id, event.user_id, Ending::Completed(paid))
    } else if record.is::<OrderCancelled>() {
        let event: OrderCancelled = record.decode()?;
        let reason = reason(event.reason)?;
        (event.order_id, event.user_id, Ending::Cancelled(reason.to_owned()))
    } else {
        return Ok(None);
    };
    if order_id.parse().ok() != Some(record.key) {
        return Err(invalid("the event is about another order than its key"));
    }
    if user_id.is_empty() {
        return Err(invalid("user_id is missing"));
    }
    let span = record.span();
    let trace = trace(record, &span);
    Ok(Some((Ended { order: record.key, user_id, ending, trace }, span)))
}

/// The span's place in the record's trace, or, where nobody collects spans, the record's own.
fn trace(record: &Record, span: &Span) -> TraceContext {
    let trace = TraceContext::of(span);
    if trace.is_none() { record.trace.clone() } else { trace }
}

/// The reason's name. One that this binary does not know is poison: guessing would tell a customer
/// something wrong.
fn reason(number: i32) -> Result<&'static str, HandlerError> {
    match CancelReason::try_from(number) {
        Ok(CancelReason::OutOfStock) => Ok("out_of_stock"),
        Ok(CancelReason::PaymentDeclined) => Ok("payment_declined"),
        Ok(CancelReason::Timeout) => Ok("timeout"),
        Ok(CancelReason::Customer) => Ok("customer"),
        Ok(CancelReason::CaptureFailed) => Ok("capture_failed"),
        Ok(CancelReason::Unspecified) | Err(_) => Err(invalid("the reason is unknown")),
    }
}

fn invalid(detail: &str) -> HandlerError {
    HandlerError::poison("invalid_event", detail)
}
