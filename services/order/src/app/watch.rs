use std::time::Duration;

use portolan_kernel::OrderId;
use portolan_proto::order::v1 as proto;
use sqlx::PgPool;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{app::Error, store::orders};

/// Changes made by another replica are seen at the next look.
const LOOK_EVERY: Duration = Duration::from_millis(500);
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
            let row = match find(&pool, id).await {
                Ok(row) => row,
                Err(error) => {
                    let _ = to.send(Err(error)).await;
                    return;
                }
            };
            let last = row.order.state.is_final();
            if row.order.version > seen {
                seen = row.order.version;
                if to.send(Ok(row.to_proto())).await.is_err() {
                    return;
                }
            }
            if last {
                return;
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

async fn find(pool: &PgPool, id: OrderId) -> Result<crate::store::OrderRow, Error> {
    let mut conn = pool.acquire().await?;
    orders::find(&mut conn, id).await?.ok_or(Error::NotFound)
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
