use std::collections::BTreeMap;

use portolan_kernel::OrderId;
use sqlx::PgConnection;

use crate::{
    domain::{Effect, Fact, Impossible, Payment, Status},
    store,
};

/// A fact about an order.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The order.
    pub order: OrderId,
    /// What became known.
    pub fact: Fact,
    /// The trace context of the event that said it.
    pub trace: String,
}

/// Why facts were not taken in.
#[derive(Debug, thiserror::Error)]
pub enum NotHeard {
    /// One of them contradicts what is known of its order.
    #[error("order {order}")]
    Impossible {
        order: OrderId,
        #[source]
        source: Impossible,
    },
    /// The database's part.
    #[error("the payments were not written")]
    Store(#[from] store::Error),
}

/// A payment and the version it was read with; none for a new one.
struct Touched {
    payment: Payment,
    read: Option<i64>,
    changed: bool,
}

/// Takes facts in, in their order, and returns the orders for which the provider is to be called.
/// Nothing is told to others: an intention is not a fact.
///
/// The caller holds a lock for each order, so that no other call begins the same payment; the
/// worker is kept away by the rows' locks.
///
/// # Errors
/// A fact contradicts what is known; the database's.
pub async fn hear(conn: &mut PgConnection, facts: &[Heard]) -> Result<Vec<OrderId>, NotHeard> {
    let mut orders: Vec<OrderId> = facts.iter().map(|heard| heard.order).collect();
    orders.sort_unstable();
    orders.dedup();
    let known = store::lock(conn, &orders).await?;
    let mut touched: BTreeMap<OrderId, Touched> = known
        .into_iter()
        .map(|(order, payment)| {
            let read = Some(payment.version);
            (order, Touched { payment, read, changed: false })
        })
        .collect();
    for heard in facts {
        fold(&mut touched, heard)
            .map_err(|source| NotHeard::Impossible { order: heard.order, source })?;
    }
    touched.retain(|_, touched| touched.changed);
    save(conn, &touched).await?;
    let due = touched.into_iter().filter(|(_, touched)| touched.payment.is_due_at_provider());
    Ok(due.map(|(order, _)| order).collect())
}

fn fold(touched: &mut BTreeMap<OrderId, Touched>, heard: &Heard) -> Result<(), Impossible> {
    if let Some(known) = touched.get_mut(&heard.order) {
        let before = known.payment.status;
        match known.payment.hear(&heard.fact, &heard.trace)? {
            Effect::Changed(change) => {
                known.changed = true;
                log(heard, Some(before), change.to);
            }
            Effect::Postponed | Effect::Ignored => {
                metrics::counter!("portolan_payment_ignored_total", "status" => before.as_str())
                    .increment(1);
                tracing::debug!(order.id = %heard.order, status = %before, "nothing new");
            }
        }
        return Ok(());
    }
    let payment = Payment::begin(heard.order, &heard.fact, &heard.trace)?;
    log(heard, None, payment.status);
    touched.insert(heard.order, Touched { payment, read: None, changed: true });
    Ok(())
}

fn log(heard: &Heard, from: Option<Status>, to: Status) {
    metrics::counter!("portolan_payment_transitions_total", "to" => to.as_str()).increment(1);
    let from = from.map_or("NONE", Status::as_str);
    tracing::info!(order.id = %heard.order, from, to = to.as_str(), "payment changed");
}

async fn save(
    conn: &mut PgConnection,
    touched: &BTreeMap<OrderId, Touched>,
) -> Result<(), store::Error> {
    let new: Vec<&Payment> =
        touched.values().filter(|t| t.read.is_none()).map(|t| &t.payment).collect();
    let old: Vec<(&Payment, i64)> =
        touched.values().filter_map(|t| t.read.map(|read| (&t.payment, read))).collect();
    store::insert(conn, &new).await?;
    store::update(conn, &old).await
}
