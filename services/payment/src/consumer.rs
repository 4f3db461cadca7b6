//! What the events of inventory and order mean for payments.

use portolan_kernel::{Currency, Money, OrderId};
use portolan_messaging::{Group, Handler, HandlerError, Record};
use portolan_proto::{
    Topic,
    events::v1::{InventoryReserved, OrderCancelled, OrderConfirmed},
};
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::Span;

use crate::{
    app::{Heard, NotHeard, hear},
    domain::{CardToken, Fact, Intent, Status},
    store,
    worker::Jobs,
};

/// The consumer group.
pub const GROUP: Group = Group { id: 3, name: "payment" };

/// The topics that concern payments.
pub const TOPICS: &[Topic] = &[Topic::Inventory, Topic::Order];

/// Turns records into facts.
#[derive(Clone, Debug)]
pub struct PaymentEvents {
    jobs: Jobs,
}

impl PaymentEvents {
    /// A handler that hands new jobs over to the worker.
    pub fn new(jobs: Jobs) -> Self {
        Self { jobs }
    }
}

impl Handler for PaymentEvents {
    type Applied = Vec<OrderId>;

    async fn apply(
        &self,
        tx: &mut PgConnection,
        records: &[Record],
    ) -> Result<Vec<OrderId>, HandlerError> {
        // The spans are open until everything is written.
        let (mut facts, mut spans) = (Vec::with_capacity(records.len()), Vec::new());
        for record in records {
            if let Some(fact) = fact(record)? {
                let span = record.span();
                let trace = trace(record, &span).as_str().to_owned();
                facts.push(Heard { order: record.key, fact, trace });
                spans.push(span);
            }
        }
        hear(tx, &facts).await.map_err(HandlerError::from)
    }

    fn committed(&self, due: Vec<OrderId>) {
        self.jobs.hand_over(due);
    }
}

impl From<NotHeard> for HandlerError {
    fn from(error: NotHeard) -> Self {
        match error {
            NotHeard::Impossible { source, .. } => {
                let status = source.status.map_or("NONE", Status::as_str);
                Self::impossible(status, source.event.as_str())
            }
            NotHeard::Store(store::Error::Database(error)) => Self::from(error),
            NotHeard::Store(store::Error::RowCount(_)) => Self::conflict("payment"),
            NotHeard::Store(error @ store::Error::Corrupt { .. }) => {
                Self::poison("corrupt_row", error.to_string())
            }
        }
    }
}

/// The span's place in the record's trace, or, where nobody collects spans, the record's own.
fn trace(record: &Record, span: &Span) -> TraceContext {
    let trace = TraceContext::of(span);
    if trace.is_none() { record.trace.clone() } else { trace }
}

/// What a record says, none if it does not concern payments.
fn fact(record: &Record) -> Result<Option<Fact>, HandlerError> {
    if record.is::<InventoryReserved>() {
        let event: InventoryReserved = record.decode()?;
        same_order(record, &event.order_id)?;
        return intent(event).map(|intent| Some(Fact::Reserved(intent)));
    }
    if record.is::<OrderConfirmed>() {
        let event: OrderConfirmed = record.decode()?;
        return same_order(record, &event.order_id).map(|()| Some(Fact::Confirmed));
    }
    if record.is::<OrderCancelled>() {
        let event: OrderCancelled = record.decode()?;
        return same_order(record, &event.order_id).map(|()| Some(Fact::Cancelled));
    }
    Ok(None)
}

fn same_order(record: &Record, order_id: &str) -> Result<(), HandlerError> {
    if order_id.parse().ok() == Some(record.key) {
        Ok(())
    } else {
        Err(HandlerError::poison("foreign_order", "the event's order is not the record's key"))
    }
}

fn intent(event: InventoryReserved) -> Result<Intent, HandlerError> {
    let invalid = |what: &'static str| HandlerError::poison("invalid_event", what);
    let amount = event.amount.ok_or_else(|| invalid("no amount"))?;
    let currency: Currency = amount.currency.parse().map_err(|_| invalid("no currency"))?;
    if amount.minor_units < 0 {
        return Err(invalid("a negative amount"));
    }
    let deadline = event.deadline.ok_or_else(|| invalid("no deadline"))?;
    let deadline = OffsetDateTime::from_unix_timestamp(deadline.seconds)
        .ok()
        .and_then(|time| time.replace_nanosecond(u32::try_from(deadline.nanos).ok()?).ok())
        .ok_or_else(|| invalid("no time as deadline"))?;
    let token = CardToken::parse(event.payment_token).ok_or_else(|| invalid("no card token"))?;
    Ok(Intent { amount: Money::new(amount.minor_units, currency), token, deadline })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(token: &str) -> InventoryReserved {
        InventoryReserved {
            amount: Some(portolan_proto::common::v1::Money {
                minor_units: 1,
                currency: "GBP".to_owned(),
            }),
            payment_token: token.to_owned(),
            deadline: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            ..InventoryReserved::default()
        }
    }

    #[test]
    fn a_token_that_no_provider_accepts_is_poison_and_not_repeated_in_the_detail() {
        assert!(intent(reserved("tok_ok")).is_ok());
        let long = "4".repeat(201);
        for token in ["", "42\0", "42 42", &long] {
            let Err(HandlerError::Poison { reason, detail }) = intent(reserved(token)) else {
                panic!("{token:?} was taken");
            };
            assert_eq!((reason, detail.contains("42")), ("invalid_event", false));
        }
    }
}
