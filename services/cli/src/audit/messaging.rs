//! The tables that every service with a database has for its events.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::topics::uuid_of;

/// One event that the service committed, published or not.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) id: Uuid,
    pub(super) key: Uuid,
    /// The topic's name without prefix.
    pub(super) topic: String,
    pub(super) kind: String,
    /// The version of the aggregate that the event left behind.
    pub(super) version: i64,
    pub(super) sha256: Vec<u8>,
}

/// A consumed event.
#[derive(Debug)]
pub(super) struct Consumed {
    pub(super) group: i16,
    pub(super) id: Uuid,
    /// `done`, `dead`, `parked` or `dropped`.
    pub(super) status: String,
}

/// A dead letter, or an event that waits behind one.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) group: i16,
    pub(super) key: String,
    pub(super) id: Uuid,
    /// Why it is dead; none for those that wait behind it.
    pub(super) reason: Option<String>,
}

/// What an operator did about one event.
#[derive(Debug)]
pub(super) struct Dealt {
    pub(super) group: i16,
    pub(super) id: Uuid,
    /// Whether it was a dead letter, or waited behind one.
    pub(super) was_dead: bool,
    /// `applied`, `refused`, `dead` or `dropped`.
    pub(super) outcome: String,
}

/// Everything about events in one service's database.
#[derive(Debug, Default)]
pub(super) struct Messaging {
    pub(super) logged: Vec<Logged>,
    pub(super) consumed: Vec<Consumed>,
    pub(super) parked: Vec<Parked>,
    /// Keys marked as parked, as text.
    pub(super) parked_keys: Vec<(i16, String)>,
    /// The operators' trail.
    pub(super) dealt: Vec<Dealt>,
}

impl Messaging {
    /// Reads everything within the connection's transaction.
    pub(super) async fn load(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            logged: logged(db).await?,
            consumed: consumed(db).await?,
            parked: parked(db).await?,
            parked_keys: parked_keys(db).await?,
            dealt: dealt(db).await?,
        })
    }
}

/// How many events wait for the relay.
pub(super) async fn unpublished(db: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(db).await
}

async fn logged(db: &mut PgConnection) -> Result<Vec<Logged>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT event_id, key, topic, type, version, sha256 FROM event_log ORDER BY event_id",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Logged {
                id: row.try_get("event_id")?,
                key: row.try_get("key")?,
                topic: row.try_get("topic")?,
                kind: row.try_get("type")?,
                version: row.try_get("version")?,
                sha256: row.try_get("sha256")?,
            })
        })
        .collect()
}

async fn consumed(db: &mut PgConnection) -> Result<Vec<Consumed>, sqlx::Error> {
    let rows = sqlx::query("SELECT grp, event_id, status FROM inbox ORDER BY grp, event_id")
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Consumed {
                group: row.try_get("grp")?,
                id: row.try_get("event_id")?,
                status: row.try_get("status")?,
            })
        })
        .collect()
}

async fn parked(db: &mut PgConnection) -> Result<Vec<Parked>, sqlx::Error> {
    let rows = sqlx::query("SELECT grp, key, event_id, reason FROM parked ORDER BY seq")
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Parked {
                group: row.try_get("grp")?,
                key: key_text(row.try_get("key")?),
                id: row.try_get("event_id")?,
                reason: row.try_get("reason")?,
            })
        })
        .collect()
}

async fn parked_keys(db: &mut PgConnection) -> Result<Vec<(i16, String)>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT grp, key FROM parked_key ORDER BY grp, key").fetch_all(db).await?;
    rows.iter().map(|row| Ok((row.try_get("grp")?, key_text(row.try_get("key")?)))).collect()
}

async fn dealt(db: &mut PgConnection) -> Result<Vec<Dealt>, sqlx::Error> {
    let trail = "SELECT grp, event_id, was_dead, outcome FROM dead_letter_action ORDER BY seq";
    let rows = sqlx::query(trail).fetch_all(db).await?;
    rows.iter()
        .map(|row| {
            Ok(Dealt {
                group: row.try_get("grp")?,
                id: row.try_get("event_id")?,
                was_dead: row.try_get("was_dead")?,
                outcome: row.try_get("outcome")?,
            })
        })
        .collect()
}

fn key_text(key: &[u8]) -> String {
    uuid_of(key).map_or_else(|| hex::encode(key), |id| id.to_string())
}
