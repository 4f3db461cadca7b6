//! The deadline sweeper: the only clock that decides an order, and it is the database's.

use std::{sync::Arc, time::Duration};

use portolan_kernel::{IdGen, OrderId};
use portolan_messaging::Waker;
use portolan_runtime::{Context, database, failpoint, telemetry::TraceContext};
use sqlx::PgPool;

use crate::{
    app::{Changes, Error, Happening, apply},
    domain::Event,
    store::{orders, placement},
};

const BATCH: i64 = 200;

/// Cancels overdue orders and forgets old answers until shutdown. Any replica may run it.
pub fn spawn_sweeper(ctx: &Context, pool: PgPool, waker: Waker, changes: Changes, every: Duration) {
    let (stop, ids) = (ctx.tasks.soft(), Arc::clone(&ctx.ids));
    ctx.tasks.spawn("deadline sweeper", async move {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = sweep(&pool, ids.as_ref(), &waker, &changes).await {
                tracing::warn!(
                    error = portolan_runtime::one_line(&error),
                    "sweep failed; the next one tries again"
                );
            }
        }
        Ok(())
    });
}

async fn sweep(
    pool: &PgPool,
    ids: &dyn IdGen,
    waker: &Waker,
    changes: &Changes,
) -> Result<(), Error> {
    while let Some(changed) = database::in_time(cancel_overdue(pool, ids)).await? {
        waker.wake();
        changes.announce(&changed);
    }
    let purged = async {
        let mut conn = database::acquire(pool).await?;
        placement::purge_answers(&mut conn).await
    };
    database::in_time(purged).await.map(drop).map_err(Error::from)
}

/// A batch of them; nothing when there was none.
async fn cancel_overdue(pool: &PgPool, ids: &dyn IdGen) -> Result<Option<Vec<OrderId>>, Error> {
    let mut tx = database::begin(pool).await?;
    let rows = orders::lock_overdue(&mut tx, BATCH).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let happenings: Vec<Happening> = rows
        .iter()
        .map(|row| Happening {
            id: row.id,
            event: Event::DeadlinePassed,
            trace: TraceContext::parse(&row.traceparent),
        })
        .collect();
    let outcome = apply(&mut tx, ids, rows, &happenings).await?;
    failpoint!("sweep:before-commit");
    tx.commit().await?;
    failpoint!("sweep:after-commit");
    Ok(Some(outcome.changed))
}
