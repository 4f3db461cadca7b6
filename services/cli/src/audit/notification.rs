//! The notification service's database.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::messaging::Messaging;

/// What one customer was told about one order.
#[derive(Debug)]
pub(super) struct Notification {
    pub(super) order: Uuid,
    /// `CONFIRMED` or `CANCELLED`.
    pub(super) kind: String,
}

/// Everything in the database.
#[derive(Debug, Default)]
pub(super) struct NotificationDb {
    pub(super) notifications: Vec<Notification>,
    pub(super) messaging: Messaging,
}

impl NotificationDb {
    /// Reads everything within the connection's transaction.
    pub(super) async fn load(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self { notifications: notifications(db).await?, messaging: Messaging::load(db).await? })
    }
}

async fn notifications(db: &mut PgConnection) -> Result<Vec<Notification>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT order_id, upper(kind) AS kind FROM notification ORDER BY order_id, kind",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| Ok(Notification { order: row.try_get("order_id")?, kind: row.try_get("kind")? }))
        .collect()
}

/// How many notifications are neither sent nor given up.
pub(super) async fn open(db: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM notification WHERE upper(state) NOT IN ('SENT', 'FAILED', 'DEAD')",
    )
    .fetch_one(db)
    .await
}
