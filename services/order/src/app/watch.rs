use std::time::Duration;

use portolan_kernel::OrderId;
use portolan_proto::order::v1 as proto;
use portolan_runtime::database;
use sqlx::PgPool;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    app::Error,
    store::{OrderRow, orders},
};

/// Changes made by another replica are seen at the next look.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const CAPACITY: usize = 4_096;

/// Tells watchers which orders this process has changed.
#[derive(Clone, Debug)]
pub struct Changes(broadcast::Sender<OrderId>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }
}

impl Changes {
    /// Call after the commit.
    pub fn announce(&self, changed: &[OrderId]) {
        for id in changed {
            // Nobody may be watching.
            let _ = self.0.send(*id);
        }
    }

    /// Sends the order's every new version until it is final, the receiver leaves, or `stop`.
    pub async fn follow(
        &self,
        pool: PgPool,
        id: OrderId,
        to: mpsc::Sender<Result<proto::Order, Error>>,
        stop: CancellationToken,
    ) {
        let mut changes = self.0.subscribe();
        let mut seen = 0;
        while !stop.is_cancelled() && !to.is_closed() {
            match database::in_time(newer(&pool, id, seen)).await {
                Ok(None) => {}
                Ok(Some(row)) => {
                    seen = row.order.version;
                    if to.send(Ok(row.to_proto())).await.is_err() || row.order.state.is_final() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = to.send(Err(error)).await;
                    return;
                }
            }
            tokio::select! {
                () = until(&mut changes, id) => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => {}
                () = to.closed() => {}
            }
        }
    }
}

/// The order if it has a version after `seen`; the row itself is read only then.
async fn newer(pool: &PgPool, id: OrderId, seen: i64) -> Result<Option<OrderRow>, Error> {
    let mut conn = pool.acquire().await?;
    match orders::version(&mut conn, id).await? {
        None => Err(Error::NotFound),
        Some(version) if version <= seen => Ok(None),
        Some(_) => Ok(orders::find(&mut conn, id).await?),
    }
}

/// Returns when the order may have changed: it was announced, or announcements were missed.
async fn until(changes: &mut broadcast::Receiver<OrderId>, id: OrderId) {
    loop {
        match changes.recv().await {
            Ok(other) if other != id => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
