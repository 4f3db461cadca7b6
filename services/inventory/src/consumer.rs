//! The consumer of the order topic: reads records and hands them to the use case.

use std::{collections::HashSet, sync::Arc};

use portolan_kernel::{Clock, IdGen};
use portolan_messaging::{Group, Handler, HandlerError, Record};
use portolan_proto::events::v1::{InventoryReserved, OrderCancelled, OrderConfirmed, OrderPlaced};
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use tracing::Span;

use crate::{
    app::{self, Applied, Incoming, Placed},
    domain::{Line, OrderEvent, Sku},
};

/// The service's consumer group.
pub const GROUP: Group = Group { id: 2, name: "inventory" };

/// What an event weighs that moves the lines of an order without naming them: about what the mean
/// order has.
const MEAN_LINES: usize = 25;

/// Applies orders' events to reservations and stock.
#[derive(Debug)]
pub struct OrderHandler {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
}

impl OrderHandler {
    /// A handler that takes time and ids from these.
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn IdGen>) -> Self {
        Self { clock, ids }
    }
}

impl Handler for OrderHandler {
    type Applied = Applied;

    /// Lines: each is a row to lock and a ledger entry to write.
    fn weight(&self, record: &Record) -> usize {
        if record.is::<OrderPlaced>() {
            record.decode::<OrderPlaced>().map_or(1, |placed| placed.lines.len().max(1))
        } else if record.is::<OrderConfirmed>() || record.is::<OrderCancelled>() {
            MEAN_LINES
        } else {
            1
        }
    }

    async fn apply(
        &self,
        tx: &mut PgConnection,
        records: &[Record],
    ) -> Result<Applied, HandlerError> {
        let incoming: Result<Vec<Incoming>, HandlerError> =
            records.iter().filter_map(|record| read(record).transpose()).collect();
        let incoming = incoming?;
        if incoming.is_empty() {
            return Ok(Applied::default());
        }
        app::apply_orders(tx, self.clock.as_ref(), self.ids.as_ref(), &incoming).await
    }

    fn committed(&self, applied: Applied) {
        for (outcome, count) in [
            ("reserved", applied.reserved),
            ("rejected", applied.rejected),
            ("committed", applied.committed),
            ("released", applied.released),
            ("ignored", applied.ignored),
        ] {
            metrics::counter!("portolan_inventory_orders_total", "outcome" => outcome)
                .increment(count);
        }
    }
}

/// What a record asks of us; `None` if it is not for us.
fn read(record: &Record) -> Result<Option<Incoming>, HandlerError> {
    let (event, placed) = if record.is::<OrderPlaced>() {
        let placed: OrderPlaced = record.decode()?;
        same_order(record, &placed.order_id)?;
        let lines = lines(&placed)?;
        (OrderEvent::Placed(lines), Some(copied(placed)?))
    } else if record.is::<OrderConfirmed>() {
        same_order(record, &record.decode::<OrderConfirmed>()?.order_id)?;
        (OrderEvent::Confirmed, None)
    } else if record.is::<OrderCancelled>() {
        same_order(record, &record.decode::<OrderCancelled>()?.order_id)?;
        (OrderEvent::Cancelled, None)
    } else {
        return Ok(None);
    };
    let span = record.span();
    let trace = trace(record, &span);
    Ok(Some(Incoming { order: record.key, event, placed, span, trace }))
}

/// The span's place in the record's trace, or, where nobody collects spans, the record's own.
fn trace(record: &Record, span: &Span) -> TraceContext {
    let trace = TraceContext::of(span);
    if trace.is_none() { record.trace.clone() } else { trace }
}

fn same_order(record: &Record, order_id: &str) -> Result<(), HandlerError> {
    if order_id.parse().ok() == Some(record.key) {
        Ok(())
    } else {
        Err(invalid("the event is about another order than its key"))
    }
}

/// The lines, each SKU once. A double SKU would meet the ledger's primary key, which stands for a
/// lost race and is retried for ever: so it must not get that far.
fn lines(placed: &OrderPlaced) -> Result<Vec<Line>, HandlerError> {
    let mut seen = HashSet::new();
    let lines: Result<Vec<Line>, HandlerError> = placed
        .lines
        .iter()
        .map(|line| {
            let sku: Sku = line.sku.parse().map_err(|_| invalid("a line's SKU is not a SKU"))?;
            if !seen.insert(&line.sku) {
                return Err(invalid("two lines have the same SKU"));
            }
            match i32::try_from(line.quantity) {
                Ok(1..) => Ok(Line { sku, quantity: line.quantity }),
                Ok(_) | Err(_) => Err(invalid("a line's quantity is out of range")),
            }
        })
        .collect();
    match lines?.as_slice() {
        [] => Err(invalid("the order has no lines")),
        lines => Ok(lines.to_vec()),
    }
}

fn copied(placed: OrderPlaced) -> Result<Placed, HandlerError> {
    if placed.amount.is_none() || placed.deadline.is_none() || placed.user_id.is_empty() {
        return Err(invalid("user, amount or deadline is missing"));
    }
    Ok(Placed(InventoryReserved {
        order_id: placed.order_id,
        user_id: placed.user_id,
        amount: placed.amount,
        payment_token: placed.payment_token,
        deadline: placed.deadline,
    }))
}

fn invalid(detail: &str) -> HandlerError {
    HandlerError::poison("invalid_event", detail)
}

#[cfg(test)]
mod tests {
    use portolan_kernel::{OrderId, RandomIds, SystemClock};
    use portolan_proto::{Event, common::v1::PricedLine, events::v1::OrderCompleted};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn weight<E: Event>(event: &E) -> usize {
        let record = Record {
            event_id: Uuid::nil(),
            event_type: E::TYPE.to_owned(),
            source: "/portolan/order".to_owned(),
            time: OffsetDateTime::UNIX_EPOCH,
            version: 1,
            key: OrderId(Uuid::nil()),
            trace: TraceContext::default(),
            payload: event.encode_to_vec(),
            topic: E::TOPIC.name().to_owned(),
            partition: 0,
            offset: 0,
        };
        OrderHandler::new(Arc::new(SystemClock), Arc::new(RandomIds(SystemClock))).weight(&record)
    }

    #[test]
    fn a_record_weighs_as_much_as_the_lines_that_it_moves() {
        let placed = |lines| OrderPlaced {
            lines: vec![PricedLine::default(); lines],
            ..OrderPlaced::default()
        };
        assert_eq!(weight(&placed(541)), 541);
        assert_eq!(weight(&placed(0)), 1);
        assert_eq!(weight(&OrderConfirmed::default()), MEAN_LINES);
        assert_eq!(weight(&OrderCancelled::default()), MEAN_LINES);
        assert_eq!(weight(&OrderCompleted::default()), 1);
    }
}
