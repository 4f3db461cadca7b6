//! The events that are set aside, and what an action changes about them.

use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    batch::MALFORMED_DAY,
    dead_letter::MALFORMED,
    envelope::{self, HeaderMap, Raw},
    handler::Group,
};

/// An event that was set aside.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) event_id: Uuid,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) headers: sqlx::types::Json<HeaderMap>,
    pub(crate) payload: Vec<u8>,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) at: OffsetDateTime,
}

impl Row {
    /// Whether it has no sound envelope, hence no queue.
    pub(super) fn is_stray(&self) -> bool {
        self.reason.as_deref() == Some(MALFORMED)
    }

    pub(super) fn event_type(&self) -> &str {
        self.header("ce_type")
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The trace that it belongs to, or nothing.
    pub(super) fn trace_id(&self) -> String {
        trace_id(self.header("traceparent"))
    }

    /// What Kafka delivered.
    pub(super) fn raw(&self) -> Raw {
        Raw {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            // Only the inbox id of an unreadable record is made of it, and that is known.
            timestamp_ms: 0,
            key: self.key.clone(),
            headers: self.headers.0.clone(),
            payload: self.payload.clone(),
        }
    }

    fn day(&self) -> time::Date {
        if self.is_stray() { MALFORMED_DAY } else { envelope::event_day(self.event_id) }
    }
}

pub(super) fn trace_id(traceparent: &str) -> String {
    TraceContext::parse(traceparent).trace_id().unwrap_or_default()
}

/// The event, if it is set aside.
pub(super) async fn find(
    conn: &mut PgConnection,
    group: Group,
    event_id: Uuid,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT seq, key, event_id, topic, kafka_partition AS partition, kafka_offset AS "offset",
             headers AS "headers: sqlx::types::Json<HeaderMap>", payload, reason, detail, at
         FROM parked WHERE grp = $1 AND event_id = $2"#,
        group.id,
        event_id,
    )
    .fetch_optional(conn)
    .await
}

/// The first events of a key's queue: at most so many, and none that comes after so many bytes of
/// payload.
pub(super) async fn queue(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
    limit: usize,
    bytes: usize,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT seq, key, event_id, topic, kafka_partition AS partition, kafka_offset AS "offset",
             headers AS "headers: sqlx::types::Json<HeaderMap>", payload, reason, detail, at
         FROM (
             SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS before
             FROM (
                 SELECT * FROM parked
                 WHERE grp = $1 AND key = $2 AND reason IS DISTINCT FROM $3
                 ORDER BY seq
                 LIMIT $4
             ) AS first
         ) AS sized
         WHERE before < $5::bigint
         ORDER BY seq"#,
        group.id,
        key,
        MALFORMED,
        i64::try_from(limit).unwrap_or(i64::MAX),
        i64::try_from(bytes).unwrap_or(i64::MAX),
    )
    .fetch_all(conn)
    .await
}

/// The first event of a key's queue.
pub(super) async fn first(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT event_id FROM parked
         WHERE grp = $1 AND key = $2 AND reason IS DISTINCT FROM $3
         ORDER BY seq
         LIMIT 1",
        group.id,
        key,
        MALFORMED,
    )
    .fetch_optional(conn)
    .await
}

/// How many events of a key's queue come after this place.
pub(super) async fn length(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
    after: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM parked
         WHERE grp = $1 AND key = $2 AND reason IS DISTINCT FROM $3 AND seq > $4"#,
        group.id,
        key,
        MALFORMED,
        after,
    )
    .fetch_one(conn)
    .await
}

/// Takes an event out of its queue; what the inbox still knows of it becomes `status`.
pub(super) async fn take_out(
    conn: &mut PgConnection,
    group: Group,
    row: &Row,
    status: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM parked WHERE seq = $1", row.seq).execute(&mut *conn).await?;
    set_status(conn, group, row, status).await
}

/// Makes an event that waited the dead letter of its key.
pub(super) async fn condemn(
    conn: &mut PgConnection,
    group: Group,
    row: &Row,
    reason: &str,
    detail: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE parked SET reason = $2, detail = $3 WHERE seq = $1",
        row.seq,
        reason,
        detail,
    )
    .execute(&mut *conn)
    .await?;
    set_status(conn, group, row, "dead").await
}

/// The inbox forgets by the day, and a dead letter may be older than that: then no row is left to
/// change, and the consumer skips whatever is as old.
async fn set_status(
    conn: &mut PgConnection,
    group: Group,
    row: &Row,
    status: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE inbox SET status = $4 WHERE grp = $1 AND event_day = $2 AND event_id = $3",
        group.id,
        row.day(),
        row.event_id,
        status,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The key's events go on; false if nothing held them up.
pub(super) async fn unmark(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
) -> Result<bool, sqlx::Error> {
    let marks = sqlx::query!("DELETE FROM parked_key WHERE grp = $1 AND key = $2", group.id, key)
        .execute(conn)
        .await?;
    Ok(marks.rows_affected() > 0)
}

/// Whether the key waits behind a dead letter.
pub(super) async fn is_marked(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM parked_key WHERE grp = $1 AND key = $2) AS "marked!""#,
        group.id,
        key,
    )
    .fetch_one(conn)
    .await
}

/// Notes that the group has seen the event; false if it had before.
pub(super) async fn remember(
    conn: &mut PgConnection,
    group: Group,
    event_id: Uuid,
) -> Result<bool, sqlx::Error> {
    let fresh = sqlx::query!(
        "INSERT INTO inbox (grp, event_day, event_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        group.id,
        envelope::event_day(event_id),
        event_id,
    )
    .execute(conn)
    .await?;
    Ok(fresh.rows_affected() == 1)
}
