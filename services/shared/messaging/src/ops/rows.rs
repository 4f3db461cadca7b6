//! The tables as an operator sees them.

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

/// A dead letter, and how many events wait behind it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) row: Row,
    pub(crate) waiting: i64,
}

impl Row {
    /// Whether it has no sound envelope, hence no queue.
    pub(super) fn is_stray(&self) -> bool {
        self.reason.as_deref() == Some(MALFORMED)
    }

    pub(super) fn event_type(&self) -> &str {
        self.headers.get("ce_type").map_or("", String::as_str)
    }

    /// The trace that it belongs to, or nothing.
    pub(super) fn trace_id(&self) -> String {
        let parent = self.headers.get("traceparent").map_or("", String::as_str);
        TraceContext::parse(parent).trace_id().unwrap_or_default()
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

/// The first events of a key's queue.
pub(super) async fn queue(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
    limit: usize,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT seq, key, event_id, topic, kafka_partition AS partition, kafka_offset AS "offset",
             headers AS "headers: sqlx::types::Json<HeaderMap>", payload, reason, detail, at
         FROM parked
         WHERE grp = $1 AND key = $2 AND reason IS DISTINCT FROM $3
         ORDER BY seq
         LIMIT $4"#,
        group.id,
        key,
        MALFORMED,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(conn)
    .await
}

/// How long a key's queue is.
pub(super) async fn length(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM parked
         WHERE grp = $1 AND key = $2 AND reason IS DISTINCT FROM $3"#,
        group.id,
        key,
        MALFORMED,
    )
    .fetch_one(conn)
    .await
}

/// The dead letters, and the first events of queues whose redrive ended early, the oldest first.
pub(super) async fn dead(
    conn: &mut PgConnection,
    group: Group,
    key: Option<&[u8]>,
    limit: i64,
    after: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT p.seq, p.key, p.event_id, p.topic, p.kafka_partition, p.kafka_offset,
             p.headers AS "headers: sqlx::types::Json<HeaderMap>", p.payload, p.reason, p.detail,
             p.at,
             CASE WHEN p.reason = $5 THEN 0 ELSE (
                 SELECT count(*) FROM parked AS w
                 WHERE w.grp = p.grp AND w.key = p.key AND w.seq > p.seq AND w.reason IS NULL
             ) END AS "waiting!"
         FROM parked AS p
         WHERE p.grp = $1
             AND p.seq > $2
             AND ($3::bytea IS NULL OR p.key = $3)
             AND (p.reason IS NOT NULL OR p.seq = (
                 SELECT min(h.seq) FROM parked AS h
                 WHERE h.grp = p.grp AND h.key = p.key AND h.reason IS DISTINCT FROM $5
             ))
         ORDER BY p.seq
         LIMIT $4"#,
        group.id,
        after,
        key,
        limit,
        MALFORMED,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Entry {
            row: Row {
                seq: row.seq,
                key: row.key,
                event_id: row.event_id,
                topic: row.topic,
                partition: row.kafka_partition,
                offset: row.kafka_offset,
                headers: row.headers,
                payload: row.payload,
                reason: row.reason,
                detail: row.detail,
                at: row.at,
            },
            waiting: row.waiting,
        })
        .collect())
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

/// The key's events go on.
pub(super) async fn unmark(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM parked_key WHERE grp = $1 AND key = $2", group.id, key)
        .execute(conn)
        .await?;
    Ok(())
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

/// The last things that operators did about the event's key.
pub(super) async fn history(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
    limit: i64,
) -> Result<Vec<Past>, sqlx::Error> {
    sqlx::query_as!(
        Past,
        "SELECT at, operator, reason, action, event_id, type AS event_type, outcome, detail,
             trace_id, request_trace_id
         FROM dead_letter_action WHERE grp = $1 AND key = $2 ORDER BY seq DESC LIMIT $3",
        group.id,
        key,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// The key of an event that an operator has dealt with.
pub(super) async fn past_key(
    conn: &mut PgConnection,
    group: Group,
    event_id: Uuid,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT key FROM dead_letter_action WHERE grp = $1 AND event_id = $2 LIMIT 1",
        group.id,
        event_id,
    )
    .fetch_optional(conn)
    .await
}

/// What an operator did about one event.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) at: OffsetDateTime,
    pub(super) operator: String,
    pub(super) reason: String,
    pub(super) action: String,
    pub(super) event_id: Uuid,
    pub(super) event_type: String,
    pub(super) outcome: String,
    pub(super) detail: Option<String>,
    pub(super) trace_id: String,
    pub(super) request_trace_id: String,
}
