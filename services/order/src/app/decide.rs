//! Applies what happened to orders: locked rows go through the state machine, and what follows
//! from it is written in the same transaction. Consumer, customer and sweeper all come through
//! here, so that they race on one row and nowhere else.

use std::collections::{BTreeMap, HashMap};

use portolan_kernel::{IdGen, OrderId};
use portolan_messaging::{HandlerError, Outgoing, outbox};
use portolan_proto::events::v1 as events;
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    domain::{Effect, Event, Order, State, Step, step},
    store::{
        OrderRow, cancel_reason,
        guards::{self, Closed},
        orders::{self, Transition, Update},
    },
};

/// Something that happened to an order, in the order it was heard of.
#[derive(Clone, Debug)]
pub struct Happening {
    /// The order.
    pub id: OrderId,
    /// What happened.
    pub event: Event,
    /// The trace it belongs to.
    pub trace: TraceContext,
}

/// What became of the happenings.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Orders that changed, each once.
    pub changed: Vec<OrderId>,
    /// Orders whose customer asked too late.
    pub refused: Vec<OrderId>,
}

#[derive(Default)]
struct Consequences {
    transitions: Vec<Transition>,
    outgoing: Vec<Outgoing>,
    outcome: Outcome,
}

/// Takes locked orders through the state machine and writes everything that follows. `rows` must
/// have been locked by this transaction in the order of their ids.
///
/// # Errors
/// An impossible pair is poison; the database's.
pub async fn apply(
    conn: &mut PgConnection,
    ids: &dyn IdGen,
    rows: Vec<OrderRow>,
    happenings: &[Happening],
) -> Result<Outcome, HandlerError> {
    let at = orders::now(conn).await?;
    let before: HashMap<OrderId, Order> = rows.iter().map(|row| (row.id, row.order)).collect();
    let mut rows: BTreeMap<OrderId, OrderRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    let mut consequences = Consequences::default();
    for happening in happenings {
        let row = rows.get_mut(&happening.id).ok_or_else(|| {
            HandlerError::poison(
                "unknown_order",
                format!("{} for {}", happening.event.as_str(), happening.id),
            )
        })?;
        consequences.add(row, happening, ids, at)?;
    }
    let changed: Vec<&OrderRow> =
        rows.values().filter(|row| before.get(&row.id) != Some(&row.order)).collect();
    write(conn, &before, &changed, &consequences, at).await?;
    let mut outcome = consequences.outcome;
    outcome.changed = changed.iter().map(|row| row.id).collect();
    Ok(outcome)
}

impl Consequences {
    fn add(
        &mut self,
        row: &mut OrderRow,
        happening: &Happening,
        ids: &dyn IdGen,
        at: OffsetDateTime,
    ) -> Result<(), HandlerError> {
        let cause = happening.event.as_str();
        match step(row.order, happening.event) {
            Step::Moved(next, effect) => {
                row.order = next;
                row.updated_at = at;
                self.transitions.push(Transition { id: row.id, order: next, cause });
                let id = ids.next();
                self.outgoing.extend(announce(effect, row, id, at, &happening.trace));
            }
            Step::Flagged(next) => row.order = next,
            Step::Ignored => {
                metrics::counter!("portolan_orders_ignored_events_total", "event" => cause)
                    .increment(1);
            }
            Step::Refused => self.outcome.refused.push(row.id),
            Step::Impossible => return Err(HandlerError::impossible(row.order.state, cause)),
        }
        Ok(())
    }
}

fn announce(
    effect: Effect,
    row: &OrderRow,
    id: uuid::Uuid,
    at: OffsetDateTime,
    trace: &TraceContext,
) -> Option<Outgoing> {
    let (order_id, user_id) = (row.id.to_string(), row.user_id.clone());
    let version = row.order.version;
    match effect {
        Effect::Silent => None,
        Effect::Confirm => {
            let event = events::OrderConfirmed { order_id, user_id };
            Some(Outgoing::new(id, row.id, version, at, trace, &event))
        }
        Effect::Cancel(reason) => {
            let reason = cancel_reason(reason).into();
            let event = events::OrderCancelled { order_id, user_id, reason };
            Some(Outgoing::new(id, row.id, version, at, trace, &event))
        }
        Effect::Complete => {
            let event = events::OrderCompleted { order_id, user_id, amount: Some(row.amount()) };
            Some(Outgoing::new(id, row.id, version, at, trace, &event))
        }
    }
}

async fn write(
    conn: &mut PgConnection,
    before: &HashMap<OrderId, Order>,
    changed: &[&OrderRow],
    consequences: &Consequences,
    at: OffsetDateTime,
) -> Result<(), HandlerError> {
    if changed.is_empty() {
        return Ok(());
    }
    let updates: Vec<Update> = changed
        .iter()
        .map(|row| Update {
            id: row.id,
            from_version: before.get(&row.id).map_or(0, |order| order.version),
            order: row.order,
        })
        .collect();
    orders::update(conn, &updates, at).await?;
    if !consequences.transitions.is_empty() {
        orders::append_history(conn, &consequences.transitions, at).await?;
    }
    let finished: Vec<&OrderRow> =
        changed.iter().copied().filter(|row| row.order.state.is_final()).collect();
    close(conn, before, &finished).await?;
    outbox::append(conn, &consequences.outgoing).await?;
    for row in &finished {
        metrics::counter!("portolan_orders_finished_total", "state" => row.order.state.as_str())
            .increment(1);
    }
    Ok(())
}

/// Moves orders that became final from "open" to where they belong in the customer's statistics.
async fn close(
    conn: &mut PgConnection,
    before: &HashMap<OrderId, Order>,
    finished: &[&OrderRow],
) -> Result<(), HandlerError> {
    let mut closed: BTreeMap<&str, Closed> = BTreeMap::new();
    let mut spent: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let newly = finished
        .iter()
        .filter(|row| before.get(&row.id).is_some_and(|order| !order.state.is_final()));
    for row in newly {
        let user = closed.entry(row.user_id.as_str()).or_default();
        if row.order.state == State::Completed {
            user.completed += 1;
            *spent.entry((&row.user_id, &row.currency)).or_insert(0) += row.amount_minor;
        } else {
            user.cancelled += 1;
        }
    }
    if !closed.is_empty() {
        guards::close_orders(conn, &closed).await?;
    }
    if !spent.is_empty() {
        guards::add_spent(conn, &spent).await?;
    }
    Ok(())
}
