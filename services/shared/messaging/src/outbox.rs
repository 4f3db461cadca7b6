//! The transactional outbox: events are rows of the transaction that caused them.

use std::{collections::BTreeMap, time::Duration};

use portolan_kernel::OrderId;
use portolan_proto::Event;
use portolan_runtime::telemetry::TraceContext;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use time::{Date, OffsetDateTime};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::envelope::{self, HeaderMap};

/// How many relays can publish at once: the shards of an outbox.
pub(crate) const SHARDS: u64 = 16;

/// The shard of a key: XXH3 (64 bit) of the key's bytes modulo 16. Fixed for ever: moving a key
/// to another shard could let its events overtake one another.
pub fn shard(key: &[u8]) -> i16 {
    i16::try_from(xxh3_64(key) % SHARDS).unwrap_or(0)
}

/// An event about to be written to the outbox.
#[derive(Clone, Debug)]
pub struct Outgoing {
    id: Uuid,
    key: OrderId,
    version: i64,
    at: OffsetDateTime,
    topic: &'static str,
    event_type: &'static str,
    headers: HeaderMap,
    payload: Vec<u8>,
}

impl Outgoing {
    /// An event about order `key` that reports its aggregate's change to `version`.
    ///
    /// `id` must be a UUIDv7; `at` is the time of the change; `trace` is what caused it.
    pub fn new<E: Event>(
        id: Uuid,
        key: OrderId,
        version: i64,
        at: OffsetDateTime,
        trace: &TraceContext,
        event: &E,
    ) -> Self {
        Self {
            id,
            key,
            version,
            at,
            topic: E::TOPIC.name(),
            event_type: E::TYPE,
            headers: envelope::headers::<E>(id, key, version, at, trace),
            payload: event.encode_to_vec(),
        }
    }

    /// The record's headers: the attributes of its envelope.
    pub const fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }
}

/// Writes events to the outbox and the event log within the caller's transaction.
///
/// The caller must hold the row lock of each event's aggregate: then, for one key, the order of
/// the rows is the order of the commits.
///
/// # Errors
/// The database's.
pub async fn append(conn: &mut PgConnection, events: &[Outgoing]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    insert_rows(conn, events.iter().map(Row::from)).await?;
    log(conn, events).await
}

/// The age of the oldest event not yet published, `None` when there is none. Dead letters do not
/// count: nobody's order waits for them.
///
/// # Errors
/// The database's.
pub async fn oldest_age(conn: &mut PgConnection) -> Result<Option<Duration>, sqlx::Error> {
    let seconds = sqlx::query_scalar!(
        "SELECT extract(epoch FROM clock_timestamp() - min(head.created_at))::float8
         FROM outbox_shard AS s
             CROSS JOIN LATERAL (
                 SELECT created_at, topic FROM outbox AS o WHERE o.shard = s.shard ORDER BY seq LIMIT 1
             ) AS head
         WHERE head.topic NOT LIKE 'portolan.dlq.%'"
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
}

/// A row as the relay will send it.
pub(crate) struct Row<'a> {
    pub(crate) event_id: Uuid,
    pub(crate) topic: &'a str,
    pub(crate) key: Vec<u8>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) payload: &'a [u8],
}

impl<'a> From<&'a Outgoing> for Row<'a> {
    fn from(event: &'a Outgoing) -> Self {
        Self {
            event_id: event.id,
            topic: event.topic,
            key: event.key.to_string().into_bytes(),
            headers: &event.headers,
            payload: &event.payload,
        }
    }
}

pub(crate) async fn insert_rows<'a>(
    conn: &mut PgConnection,
    rows: impl Iterator<Item = Row<'a>>,
) -> Result<(), sqlx::Error> {
    let (mut shards, mut ids, mut topics, mut keys, mut headers, mut payloads) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for row in rows {
        shards.push(shard(&row.key));
        ids.push(row.event_id);
        topics.push(row.topic.to_owned());
        keys.push(row.key);
        headers.push(serde_json::json!(row.headers));
        payloads.push(row.payload.to_vec());
    }
    sqlx::query!(
        "INSERT INTO outbox (shard, event_id, topic, key, headers, payload)
         SELECT shard, event_id, topic, key, headers, payload
         FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::bytea[], $5::jsonb[], $6::bytea[])
             WITH ORDINALITY AS e (shard, event_id, topic, key, headers, payload, position)
         ORDER BY position",
        &shards,
        &ids,
        &topics,
        &keys,
        &headers,
        &payloads,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn log(conn: &mut PgConnection, events: &[Outgoing]) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let days: Vec<Date> = ids.iter().map(|id| envelope::event_day(*id)).collect();
    let keys: Vec<Uuid> = events.iter().map(|event| event.key.0).collect();
    let topics: Vec<String> = events.iter().map(|event| event.topic.to_owned()).collect();
    let types: Vec<String> = events.iter().map(|event| event.event_type.to_owned()).collect();
    let versions: Vec<i64> = events.iter().map(|event| event.version).collect();
    let hashes: Vec<Vec<u8>> =
        events.iter().map(|event| Sha256::digest(&event.payload).to_vec()).collect();
    let times: Vec<OffsetDateTime> = events.iter().map(|event| event.at).collect();
    sqlx::query!(
        "INSERT INTO event_log (event_id, event_day, key, topic, type, version, sha256, at)
         SELECT * FROM unnest(
             $1::uuid[], $2::date[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bytea[],
             $8::timestamptz[]
         )",
        &ids,
        &days,
        &keys,
        &topics,
        &types,
        &versions,
        &hashes,
        &times,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_shard_for_ever() {
        let shards: Vec<i16> = [
            "00000000-0000-7000-8000-000000000000",
            "019aa5b6-7c00-7000-8000-000000000001",
            "019aa5b6-7c00-7000-8000-000000000002",
            "",
        ]
        .iter()
        .map(|key| shard(key.as_bytes()))
        .collect();
        assert_eq!(shards, [8, 2, 11, 2], "golden values");
    }
}
