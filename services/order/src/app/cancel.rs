use portolan_kernel::{IdGen, OrderId};
use portolan_messaging::Waker;
use portolan_runtime::{database, failpoint, telemetry::TraceContext};
use sqlx::PgPool;

use crate::{
    app::{Changes, Error, Happening, apply},
    domain::Event,
    store::{OrderRow, orders},
};

/// Cancels the customer's order; again for one already cancelled.
///
/// # Errors
/// Not found or not the customer's; confirmed already.
pub async fn cancel(
    pool: &PgPool,
    ids: &dyn IdGen,
    waker: &Waker,
    changes: &Changes,
    user_id: &str,
    id: OrderId,
) -> Result<OrderRow, Error> {
    let mut tx = database::begin(pool).await?;
    let rows = orders::lock(&mut tx, &[id.0]).await?;
    if !rows.iter().any(|row| row.user_id == user_id) {
        return Err(Error::NotFound);
    }
    let happening =
        Happening { id, event: Event::CustomerCancelled, trace: TraceContext::current() };
    let outcome = apply(&mut tx, ids, rows, &[happening]).await?;
    if !outcome.refused.is_empty() {
        return Err(Error::NotCancellable);
    }
    let order = orders::find(&mut tx, id).await?.ok_or(Error::NotFound)?;
    failpoint!("cancel:before-commit");
    tx.commit().await?;
    failpoint!("cancel:after-commit");
    waker.wake();
    changes.announce(&outcome.changed);
    Ok(order)
}
