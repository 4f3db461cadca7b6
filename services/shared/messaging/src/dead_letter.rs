//! Records that can never be applied, and those that wait behind them.

use portolan_proto::{
    Event,
    events::v1::{InventoryReserved, OrderPlaced},
};
use prost::Message as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    batch::Delivery,
    envelope::{HeaderMap, Raw},
    handler::Group,
    inbox, outbox,
    topics::dead_letter_topic,
};

/// Whatever a record brings along, its dead letter must fit into a Kafka message and an index, or
/// it could never be buried: it keeps the beginning of each part. The original payload and headers
/// are in the database.
const MAX_PAYLOAD: usize = 256 * 1024;
const MAX_HEADER: usize = 1_024;
const MAX_HEADERS: usize = 64;
const MAX_DETAIL: usize = 500;
const MAX_KEY: usize = 256;

/// The reason of a record whose envelope cannot be read.
pub(crate) const MALFORMED: &str = "malformed_envelope";

/// Why a record is dead.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    reason: &'static str,
    detail: String,
}

impl Verdict {
    /// A verdict in words that any column can hold.
    pub(crate) fn new(reason: &'static str, detail: &str) -> Self {
        Self { reason, detail: shorten(&detail.replace('\0', "\u{fffd}"), MAX_DETAIL) }
    }

    pub(crate) fn reason(&self) -> &'static str {
        self.reason
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

fn shorten(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// The key as far as an index can hold it; a sound key is always whole.
fn short_key(raw: &Raw) -> Vec<u8> {
    raw.key.iter().copied().take(MAX_KEY).collect()
}

/// Buries a record in the transaction that marks its inbox row: the original goes to `parked`,
/// from where an operator can apply it, a redacted copy to the group's dead-letter topic, and its
/// key is parked so that nothing overtakes it.
pub(crate) async fn bury(
    conn: &mut PgConnection,
    group: Group,
    delivery: &Delivery,
    verdict: &Verdict,
) -> Result<(), sqlx::Error> {
    park(conn, group, &[delivery], Some(verdict)).await?;
    // Only a readable key can have later events; an unreadable one must not park its neighbours.
    if delivery.record.is_ok() {
        sqlx::query!(
            "INSERT INTO parked_key (grp, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            group.id,
            delivery.raw.key,
        )
        .execute(&mut *conn)
        .await?;
    }
    let redacted = match &delivery.record {
        Ok(record) => redact(&record.event_type, &delivery.raw.payload),
        // Nobody knows what is in it, so it may hold a card token.
        Err(_) => Vec::new(),
    };
    publish(conn, group, &delivery.raw, delivery.inbox_id, redacted, verdict).await?;
    inbox::set_status(conn, group, &[delivery], "dead").await
}

/// Puts records behind the dead letter of their key.
pub(crate) async fn park_behind(
    conn: &mut PgConnection,
    group: Group,
    deliveries: &[&Delivery],
) -> Result<(), sqlx::Error> {
    if deliveries.is_empty() {
        return Ok(());
    }
    park(conn, group, deliveries, None).await?;
    inbox::set_status(conn, group, deliveries, "parked").await
}

async fn park(
    conn: &mut PgConnection,
    group: Group,
    deliveries: &[&Delivery],
    verdict: Option<&Verdict>,
) -> Result<(), sqlx::Error> {
    for delivery in deliveries {
        let raw = &delivery.raw;
        // The very event may be there already; another one under its id would be lost.
        let kept = sqlx::query!(
            "INSERT INTO parked (grp, key, event_id, topic, kafka_partition, kafka_offset, headers, payload, reason, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (grp, event_id) DO UPDATE SET event_id = excluded.event_id
                 WHERE parked.key = excluded.key AND parked.payload = excluded.payload",
            group.id,
            short_key(raw),
            delivery.inbox_id,
            raw.topic,
            raw.partition,
            raw.offset,
            serde_json::json!(raw.headers),
            raw.payload,
            verdict.map(Verdict::reason),
            verdict.map(Verdict::detail),
        )
        .execute(&mut *conn)
        .await?;
        if kept.rows_affected() != 1 {
            return Err(usurped(group, delivery));
        }
    }
    Ok(())
}

/// Somebody must look: the consumer tries again and again, rather than lose the record.
fn usurped(group: Group, delivery: &Delivery) -> sqlx::Error {
    let Delivery { raw, inbox_id, .. } = delivery;
    tracing::error!(
        group = group.name,
        event.id = %inbox_id,
        topic = raw.topic,
        partition = raw.partition,
        offset = raw.offset,
        "record not set aside: another one is, under its id"
    );
    sqlx::Error::Protocol(format!("another record is set aside as {inbox_id}"))
}

/// Says that a record is dead: the alert is made of it.
pub(crate) fn announce(group: Group, raw: &Raw, verdict: &Verdict) {
    tracing::error!(
        group = group.name,
        topic = raw.topic,
        partition = raw.partition,
        offset = raw.offset,
        reason = verdict.reason,
        detail = verdict.detail,
        "record dead-lettered"
    );
    metrics::counter!(
        "portolan_consumer_records_total", "group" => group.name, "outcome" => "dead"
    )
    .increment(1);
}

/// Publishes the dead letter of an event that waited behind another and turned out to be one.
pub(crate) async fn publish_parked(
    conn: &mut PgConnection,
    group: Group,
    raw: &Raw,
    event_id: Uuid,
    verdict: &Verdict,
) -> Result<(), sqlx::Error> {
    let event_type = raw.headers.get("ce_type").map_or("", String::as_str);
    let redacted = redact(event_type, &raw.payload);
    publish(conn, group, raw, event_id, redacted, verdict).await
}

async fn publish(
    conn: &mut PgConnection,
    group: Group,
    raw: &Raw,
    event_id: Uuid,
    mut payload: Vec<u8>,
    verdict: &Verdict,
) -> Result<(), sqlx::Error> {
    let headers = headers(group, raw, verdict);
    payload.truncate(MAX_PAYLOAD);
    let row = outbox::Row {
        event_id,
        topic: &dead_letter_topic(group.name),
        key: short_key(raw),
        headers: &headers,
        payload: &payload,
    };
    outbox::insert_rows(conn, std::iter::once(row)).await
}

/// The record's own, among them its `traceparent`, and why and where it died.
fn headers(group: Group, raw: &Raw, verdict: &Verdict) -> HeaderMap {
    let mut headers: HeaderMap = raw
        .headers
        .iter()
        .take(MAX_HEADERS)
        .map(|(name, value)| (shorten(name, MAX_HEADER), shorten(value, MAX_HEADER)))
        .collect();
    headers.extend([
        ("dlq_group".to_owned(), group.name.to_owned()),
        ("dlq_reason".to_owned(), verdict.reason.to_owned()),
        ("dlq_detail".to_owned(), verdict.detail.clone()),
        ("dlq_topic".to_owned(), raw.topic.clone()),
        ("dlq_partition".to_owned(), raw.partition.to_string()),
        ("dlq_offset".to_owned(), raw.offset.to_string()),
    ]);
    headers
}

/// The payload without the card token. What claims to be such a message and cannot be read is
/// left out altogether: the original is in the database.
fn redact(event_type: &str, payload: &[u8]) -> Vec<u8> {
    match event_type {
        OrderPlaced::TYPE => OrderPlaced::decode(payload).map_or_else(
            |_| Vec::new(),
            |message| OrderPlaced { payment_token: String::new(), ..message }.encode_to_vec(),
        ),
        InventoryReserved::TYPE => InventoryReserved::decode(payload).map_or_else(
            |_| Vec::new(),
            |message| InventoryReserved { payment_token: String::new(), ..message }.encode_to_vec(),
        ),
        _ => payload.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_does_not_carry_the_card_token() {
        let message = OrderPlaced {
            order_id: "o".to_owned(),
            payment_token: "tok_secret".to_owned(),
            ..OrderPlaced::default()
        };
        let redacted = redact(OrderPlaced::TYPE, &message.encode_to_vec());
        let read = OrderPlaced::decode(redacted.as_slice()).unwrap();
        assert_eq!((read.order_id.as_str(), read.payment_token.as_str()), ("o", ""));
        assert!(redact(OrderPlaced::TYPE, b"\xff tok_secret").is_empty());
    }
}
