//! What the order service hears: the facts of inventory and payment move orders, and every event
//! of every service goes into the timeline.

use std::sync::Arc;

use portolan_kernel::IdGen;
use portolan_messaging::{Group, Handler, HandlerError, Record};
use portolan_proto::{Event as Message, Topic, events::v1 as events, order::v1::CancelReason};
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use tracing::Span;

use crate::{
    app::{Changes, Happening, Outcome, apply},
    domain::Event,
    store::{
        orders,
        timeline::{self, Entry},
    },
};

/// The group.
pub const GROUP: Group = Group { id: 1, name: "order" };
/// All topics: its own too, for the timeline.
pub const TOPICS: &[Topic] = &[Topic::Order, Topic::Inventory, Topic::Payment, Topic::Notification];

/// The handler.
#[derive(Debug)]
pub struct OrderEvents {
    pub(crate) ids: Arc<dyn IdGen>,
    pub(crate) changes: Changes,
}

impl Handler for OrderEvents {
    type Applied = Outcome;

    async fn apply(
        &self,
        tx: &mut PgConnection,
        records: &[Record],
    ) -> Result<Outcome, HandlerError> {
        let entries = records.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        // Open until everything is written.
        let spans: Vec<Span> = records.iter().map(Record::span).collect();
        let happenings: Vec<Happening> = records
            .iter()
            .zip(&spans)
            .filter_map(|(record, span)| happening(record, span))
            .collect();
        let mut ids: Vec<_> = happenings.iter().map(|h| h.id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let outcome = if ids.is_empty() {
            Outcome::default()
        } else {
            let rows = orders::lock(tx, &ids).await?;
            apply(tx, self.ids.as_ref(), rows, &happenings).await?
        };
        timeline::insert(tx, &entries).await?;
        Ok(outcome)
    }

    fn committed(&self, outcome: Outcome) {
        self.changes.announce(&outcome.changed);
    }
}

fn happening(record: &Record, span: &Span) -> Option<Happening> {
    let event = match record.event_type.as_str() {
        events::InventoryReserved::TYPE => Event::Reserved,
        events::InventoryRejected::TYPE => Event::Rejected,
        events::InventoryCommitted::TYPE => Event::Committed,
        events::PaymentAuthorized::TYPE => Event::Authorized,
        events::PaymentDeclined::TYPE => Event::Declined,
        events::PaymentCaptured::TYPE => Event::Captured,
        events::PaymentCaptureFailed::TYPE => Event::CaptureFailed,
        _ => return None,
    };
    Some(Happening { id: record.key, event, trace: trace(record, span) })
}

/// The span's place in the record's trace, or, where nobody collects spans, the record's own.
fn trace(record: &Record, span: &Span) -> TraceContext {
    let trace = TraceContext::of(span);
    if trace.is_none() { record.trace.clone() } else { trace }
}

fn entry(record: &Record) -> Result<Entry, HandlerError> {
    Ok(Entry {
        event_id: record.event_id,
        order_id: record.key.0,
        event_type: record.event_type.clone(),
        source: record.source.clone(),
        version: record.version,
        at: record.time,
        trace_id: record.trace.trace_id().unwrap_or_default(),
        detail: detail(record)?,
    })
}

/// The event's own words. Reading them also makes sure that a message that moves an order is one,
/// and speaks of the order that its key names.
fn detail(record: &Record) -> Result<String, HandlerError> {
    let (order_id, detail) = match record.event_type.as_str() {
        events::InventoryReserved::TYPE => {
            (record.decode::<events::InventoryReserved>()?.order_id, String::new())
        }
        events::InventoryCommitted::TYPE => {
            (record.decode::<events::InventoryCommitted>()?.order_id, String::new())
        }
        events::InventoryRejected::TYPE => {
            let event: events::InventoryRejected = record.decode()?;
            (event.order_id, event.sku)
        }
        events::PaymentAuthorized::TYPE => {
            let event: events::PaymentAuthorized = record.decode()?;
            (event.order_id, event.psp_reference)
        }
        events::PaymentDeclined::TYPE => {
            let event: events::PaymentDeclined = record.decode()?;
            (event.order_id, event.code)
        }
        events::PaymentCaptured::TYPE => {
            (record.decode::<events::PaymentCaptured>()?.order_id, String::new())
        }
        events::PaymentCaptureFailed::TYPE => {
            let event: events::PaymentCaptureFailed = record.decode()?;
            (event.order_id, event.code)
        }
        events::OrderCancelled::TYPE => {
            let event: events::OrderCancelled = record.decode()?;
            (event.order_id.clone(), cancel_word(event.reason()).to_owned())
        }
        _ => return Ok(String::new()),
    };
    if order_id == record.key.to_string() {
        Ok(detail)
    } else {
        Err(HandlerError::poison("key_mismatch", format!("the message speaks of {order_id}")))
    }
}

const fn cancel_word(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Unspecified => "unspecified",
        CancelReason::OutOfStock => "out_of_stock",
        CancelReason::PaymentDeclined => "payment_declined",
        CancelReason::Timeout => "timeout",
        CancelReason::Customer => "customer",
        CancelReason::CaptureFailed => "capture_failed",
    }
}
