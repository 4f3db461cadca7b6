use portolan_runtime::database;
use sqlx::PgPool;
use time::OffsetDateTime;

use super::Error;
use crate::{domain::Kind, store};

/// Where a notification stands, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It will be sent, or is being sent.
    Pending,
    /// It was sent or recorded.
    Sent,
    /// It can never be sent.
    Failed,
}

/// A notification as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it says.
    pub kind: Kind,
    /// Where it stands.
    pub status: Status,
    /// Its `Message-ID` without angle brackets.
    pub message_id: String,
    /// When it was sent.
    pub sent_at: Option<OffsetDateTime>,
}

/// The notifications of an order: none or one.
///
/// # Errors
/// The id is no id, or the database's.
pub async fn list_notifications(pool: &PgPool, order_id: &str) -> Result<Vec<Shown>, Error> {
    let order = order_id.parse().map_err(|_| Error::OrderId)?;
    let mut conn = database::acquire(pool).await?;
    let stored = store::of_order(&mut conn, order).await?;
    Ok(stored.into_iter().map(show).collect())
}

fn show(stored: store::Stored) -> Shown {
    let status = match stored.state.as_str() {
        "SENT" => Status::Sent,
        "FAILED" => Status::Failed,
        _ => Status::Pending,
    };
    let store::Stored { kind, message_id, sent_at, .. } = stored;
    Shown { kind, status, message_id, sent_at }
}
