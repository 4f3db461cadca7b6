//! The tables as an operator sees them: without payloads, and of each text as much as one reads.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::Row;
use crate::{dead_letter::MALFORMED, handler::Group};

/// Characters of an event's type that are told: whoever forges one chooses its length.
pub(super) const MAX_TYPE: usize = 200;

/// A dead letter, and how many events wait behind it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) event_id: Uuid,
    pub(crate) event_type: String,
    pub(crate) traceparent: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) payload_bytes: i32,
    pub(crate) reason: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) at: OffsetDateTime,
    pub(crate) waiting: i64,
}

impl Entry {
    pub(super) fn of(row: Row, waiting: i64) -> Self {
        Self {
            event_type: row.event_type().chars().take(MAX_TYPE).collect(),
            traceparent: row.header("traceparent").to_owned(),
            payload_bytes: i32::try_from(row.payload.len()).unwrap_or(i32::MAX),
            seq: row.seq,
            key: row.key,
            event_id: row.event_id,
            topic: row.topic,
            partition: row.partition,
            offset: row.offset,
            reason: row.reason,
            detail: row.detail,
            at: row.at,
            waiting,
        }
    }
}

/// The dead letters, and the first events of queues whose redrive ended early, the oldest first.
pub(super) async fn dead(
    conn: &mut PgConnection,
    group: Group,
    key: Option<&[u8]>,
    limit: i64,
    after: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as!(
        Entry,
        r#"SELECT p.seq, p.key, p.event_id, coalesce(left(p.headers->>'ce_type', 200), '') AS "event_type!",
             coalesce(left(p.headers->>'traceparent', 200), '') AS "traceparent!", p.topic,
             p.kafka_partition AS partition, p.kafka_offset AS "offset",
             octet_length(p.payload) AS "payload_bytes!", p.reason, p.detail, p.at,
             CASE WHEN p.reason = $5 THEN 0 ELSE (
                 SELECT count(*) FROM parked AS w
                 WHERE w.grp = p.grp AND w.key = p.key AND w.seq > p.seq AND w.reason IS NULL
             ) END AS "waiting!"
         FROM (
             SELECT seq FROM parked WHERE grp = $1 AND reason IS NOT NULL
             UNION
             SELECT head.seq FROM parked_key AS k CROSS JOIN LATERAL (
                 SELECT h.seq FROM parked AS h
                 WHERE h.grp = k.grp AND h.key = k.key AND h.reason IS DISTINCT FROM $5
                 ORDER BY h.seq LIMIT 1
             ) AS head WHERE k.grp = $1
         ) AS found JOIN parked AS p USING (seq)
         WHERE p.seq > $2 AND ($3::bytea IS NULL OR p.key = $3)
         ORDER BY p.seq LIMIT $4"#,
        group.id,
        after,
        key,
        limit,
        MALFORMED,
    )
    .fetch_all(conn)
    .await
}

/// An event that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) event_id: Uuid,
    pub(super) event_type: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) at: OffsetDateTime,
}

/// The first events of a key's queue that come after this place.
pub(super) async fn behind(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
    after: i64,
    limit: i64,
) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"SELECT event_id, coalesce(left(headers->>'ce_type', 200), '') AS "event_type!", topic,
             kafka_partition AS partition, kafka_offset AS "offset", at
         FROM parked
         WHERE grp = $1 AND key = $2 AND seq > $3 AND reason IS DISTINCT FROM $4
         ORDER BY seq
         LIMIT $5"#,
        group.id,
        key,
        after,
        MALFORMED,
        limit,
    )
    .fetch_all(conn)
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

/// The last things that operators did about the event's key.
pub(super) async fn history(
    conn: &mut PgConnection,
    group: Group,
    key: &[u8],
    limit: i64,
) -> Result<Vec<Past>, sqlx::Error> {
    sqlx::query_as!(
        Past,
        r#"SELECT at, operator, reason, action, event_id, left(type, 200) AS "event_type!", outcome,
             detail, trace_id, request_trace_id
         FROM dead_letter_action WHERE grp = $1 AND key = $2 ORDER BY seq DESC LIMIT $3"#,
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
