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
    pub(super) state: String,
    pub(super) message_id: String,
}

/// One message that the mail server took, or that was recorded because there is none.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) order: Uuid,
    /// `CONFIRMED` or `CANCELLED`.
    pub(super) kind: String,
    pub(super) message_id: String,
}

/// Everything in the database.
#[derive(Debug, Default)]
pub(super) struct NotificationDb {
    pub(super) notifications: Vec<Notification>,
    pub(super) mails: Vec<Mail>,
    pub(super) messaging: Messaging,
}

impl NotificationDb {
    /// Reads everything within the connection's transaction.
    pub(super) async fn load(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            notifications: notifications(db).await?,
            mails: mails(db).await?,
            messaging: Messaging::load(db).await?,
        })
    }
}

async fn notifications(db: &mut PgConnection) -> Result<Vec<Notification>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT order_id, upper(kind) AS kind, upper(state) AS state, message_id
         FROM notification ORDER BY order_id, kind",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Notification {
                order: row.try_get("order_id")?,
                kind: row.try_get("kind")?,
                state: row.try_get("state")?,
                message_id: row.try_get("message_id")?,
            })
        })
        .collect()
}

async fn mails(db: &mut PgConnection) -> Result<Vec<Mail>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT order_id, upper(kind) AS kind, message_id FROM mail_ledger ORDER BY order_id",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Mail {
                order: row.try_get("order_id")?,
                kind: row.try_get("kind")?,
                message_id: row.try_get("message_id")?,
            })
        })
        .collect()
}

/// Whose notifications are neither sent nor given up.
pub(super) async fn open(db: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT order_id FROM notification WHERE upper(state) NOT IN ('SENT', 'FAILED') ORDER BY 1",
    )
    .fetch_all(db)
    .await
}
