//! Turns orders' ends into notifications, within the consumer's transaction.

use std::collections::BTreeSet;

use portolan_kernel::{Clock, IdGen, OrderId};
use portolan_messaging::{HandlerError, Outgoing, outbox};
use portolan_proto::events::v1::NotificationSent;
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use uuid::Uuid;

use super::deliver::{VERSION, wire_kind};
use crate::{
    domain::{Decision, Ending, decide, message_id},
    store,
};

/// An order ended.
#[derive(Debug)]
pub struct Ended {
    /// The order.
    pub order: OrderId,
    /// Whom to tell.
    pub user_id: String,
    /// What to tell.
    pub ending: Ending,
    /// The trace it belongs to.
    pub trace: TraceContext,
}

/// What to do with a new notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There is a mail server: leave it to the worker.
    Send,
    /// There is none: the record of it is all there will be.
    Record,
}

/// Creates the notifications of orders that ended. Returns how many are new.
///
/// # Errors
/// An order that ended differently before (poison), or the database's.
pub async fn record_endings(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &dyn IdGen,
    mode: Mode,
    ended: Vec<Ended>,
) -> Result<u64, HandlerError> {
    let orders: BTreeSet<Uuid> = ended.iter().map(|one| one.order.0).collect();
    let orders: Vec<Uuid> = orders.into_iter().collect();
    let mut told = store::existing_kinds(tx, &orders).await?;

    let mut new = Vec::new();
    for Ended { order, user_id, ending, trace } in ended {
        match decide(told.get(&order).copied(), ending.kind()) {
            Decision::Create => {
                told.insert(order, ending.kind());
                new.push(store::New { order, user_id, ending, trace });
            }
            Decision::Duplicate => {}
            Decision::Impossible => {
                return Err(HandlerError::impossible(told.get(&order), ending.kind().as_str()));
            }
        }
    }
    if new.is_empty() {
        return Ok(0);
    }
    store::insert(tx, &new, mode == Mode::Record).await?;
    match mode {
        Mode::Send => {}
        Mode::Record => publish(tx, clock, ids, &new).await?,
    }
    Ok(u64::try_from(new.len()).unwrap_or(u64::MAX))
}

async fn publish(
    tx: &mut PgConnection,
    clock: &dyn Clock,
    ids: &dyn IdGen,
    new: &[store::New],
) -> Result<(), sqlx::Error> {
    let recorded: Vec<_> = new.iter().map(|one| (one.order, one.ending.kind(), 1)).collect();
    store::record_acceptances(tx, &recorded, "recorded").await?;
    let at = clock.now();
    let events: Vec<Outgoing> = new
        .iter()
        .map(|one| {
            let kind = one.ending.kind();
            let event = NotificationSent {
                order_id: one.order.to_string(),
                kind: wire_kind(kind).into(),
                message_id: message_id(one.order, kind),
            };
            Outgoing::new(ids.next(), one.order, VERSION, at, &one.trace, &event)
        })
        .collect();
    outbox::append(tx, &events).await
}
