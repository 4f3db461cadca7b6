//! Applies a batch of orders' events: the rows are locked, the events folded over them in memory
//! in the order of the records, and everything written back by a constant number of statements.

use std::collections::BTreeSet;

use portolan_kernel::{Clock, IdGen, OrderId};
use portolan_messaging::{HandlerError, Outgoing, outbox};
use portolan_proto::events::v1::{
    InventoryCommitted, InventoryRejected, InventoryReleased, InventoryReserved,
};
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use tracing::Span;
use uuid::Uuid;

use crate::{
    domain::{Books, Effect, OrderEvent, Outcome},
    store,
};

/// An event about an order, read and found sound.
#[derive(Debug)]
pub struct Incoming {
    /// The order.
    pub order: OrderId,
    /// What it asks for.
    pub event: OrderEvent,
    /// What the answer to `placed` copies.
    pub placed: Option<Placed>,
    /// The span that handles it.
    pub span: Span,
    /// The trace that what it causes belongs to.
    pub trace: TraceContext,
}

/// What payment needs to know, copied from the order's event into ours.
#[derive(Debug)]
pub struct Placed(pub InventoryReserved);

/// How many events did what, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Orders whose stock was set aside.
    pub reserved: u64,
    /// Orders that were rejected.
    pub rejected: u64,
    /// Orders whose goods left.
    pub committed: u64,
    /// Orders whose goods came back.
    pub released: u64,
    /// Events that changed nothing anybody is told about.
    pub ignored: u64,
}

/// Applies events within the consumer's transaction, which holds the advisory locks of the orders.
///
/// # Errors
/// An impossible event (poison), or the database's.
pub async fn apply_orders(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &dyn IdGen,
    incoming: &[Incoming],
) -> Result<Applied, HandlerError> {
    let mut books = open_books(tx, incoming).await?;
    let at = clock.now();
    let mut applied = Applied::default();
    let mut events = Vec::new();
    for one in incoming {
        let outcome = one.span.in_scope(|| books.apply(one.order, &one.event));
        let outcome = outcome.map_err(|impossible| {
            HandlerError::poison("impossible_transition", impossible.to_string())
        })?;
        applied.count(&outcome);
        if let Outcome::Changed(effect, version) = outcome {
            let envelope =
                Envelope { id: ids.next(), order: one.order, version, at, trace: &one.trace };
            events.push(envelope.seal(effect, one.placed.as_ref()));
        }
    }
    close_books(tx, &books).await?;
    outbox::append(tx, &events).await?;
    Ok(applied)
}

async fn open_books(tx: &mut PgConnection, incoming: &[Incoming]) -> Result<Books, HandlerError> {
    let orders: BTreeSet<Uuid> = incoming.iter().map(|one| one.order.0).collect();
    let orders: Vec<Uuid> = orders.into_iter().collect();
    let reservations = store::lock_reservations(tx, &orders).await?;

    let mut skus = BTreeSet::new();
    for one in incoming {
        let stored = reservations.get(&one.order);
        match (&one.event, stored) {
            // A duplicate of a `placed` touches no stock by itself.
            (OrderEvent::Placed(lines), None) => skus.extend(lines.iter().map(|line| &line.sku)),
            (OrderEvent::Confirmed | OrderEvent::Cancelled, Some(reservation)) => {
                skus.extend(reservation.lines.iter().map(|line| &line.sku));
            }
            (OrderEvent::Placed(_), Some(_))
            | (OrderEvent::Confirmed | OrderEvent::Cancelled, None) => {}
        }
    }
    let skus: Vec<String> = skus.into_iter().map(|sku| sku.as_str().to_owned()).collect();
    let levels = store::lock_levels(tx, &skus).await?;
    Ok(Books::new(reservations, levels))
}

async fn close_books(tx: &mut PgConnection, books: &Books) -> Result<(), HandlerError> {
    let changed: Vec<_> = books.changed().collect();
    let written = store::save_reservations(tx, &changed).await?;
    HandlerError::expect_rows(changed.len(), written, "reservation")?;
    let (written, expected) = store::save_levels(tx, books.levels()).await?;
    HandlerError::expect_rows(expected, written, "stock")?;
    store::insert_entries(tx, books.entries()).await?;
    Ok(())
}

struct Envelope<'a> {
    id: Uuid,
    order: OrderId,
    version: i64,
    at: time::OffsetDateTime,
    trace: &'a TraceContext,
}

impl Envelope<'_> {
    fn seal(&self, effect: Effect, placed: Option<&Placed>) -> Outgoing {
        let order_id = self.order.to_string();
        match effect {
            Effect::Reserved => {
                let copied = placed.map(|Placed(event)| event.clone()).unwrap_or_default();
                self.outgoing(&InventoryReserved { order_id, ..copied })
            }
            Effect::Rejected(sku) => {
                self.outgoing(&InventoryRejected { order_id, sku: sku.into_string() })
            }
            Effect::Committed => self.outgoing(&InventoryCommitted { order_id }),
            Effect::Released => self.outgoing(&InventoryReleased { order_id }),
        }
    }

    fn outgoing<E: portolan_proto::Event>(&self, event: &E) -> Outgoing {
        Outgoing::new(self.id, self.order, self.version, self.at, self.trace, event)
    }
}

impl Applied {
    fn count(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Changed(Effect::Reserved, _) => &mut self.reserved,
            Outcome::Changed(Effect::Rejected(_), _) => &mut self.rejected,
            Outcome::Changed(Effect::Committed, _) => &mut self.committed,
            Outcome::Changed(Effect::Released, _) => &mut self.released,
            Outcome::Tombstone | Outcome::Ignored(_) => &mut self.ignored,
        };
        *counter += 1;
    }
}
