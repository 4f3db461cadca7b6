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
    topics::{DEAD_LETTER_HEADERS, dead_letter_topic},
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
    let values = [
        group.name.to_owned(),
        verdict.reason.to_owned(),
        verdict.detail.clone(),
        raw.topic.clone(),
        raw.partition.to_string(),
        raw.offset.to_string(),
    ];
    headers.extend(DEAD_LETTER_HEADERS.map(str::to_owned).into_iter().zip(values));
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
    use portolan_proto::{EVENT_TYPES, event_json};
    use proptest::prelude::*;

    use super::*;

    /// Any record whatever, as Kafka would deliver it.
    fn records() -> impl Strategy<Value = Raw> {
        let text = prop_oneof!["[ -~]{0,40}", any::<String>(), "(ce_[a-z]{1,12}|dlq_[a-z]{1,9})"];
        let headers = proptest::collection::btree_map(text.clone(), text, 0..80);
        let bytes = || proptest::collection::vec(any::<u8>(), 0..400);
        (headers, bytes(), bytes(), any::<(i32, i64, i64)>()).prop_map(
            |(headers, key, payload, (partition, offset, timestamp_ms))| Raw {
                topic: "portolan.order.v1".to_owned(),
                partition,
                offset,
                timestamp_ms,
                key,
                headers,
                payload,
            },
        )
    }

    proptest! {
        #[test]
        fn any_record_can_be_a_dead_letter(raw in records(), detail in any::<String>()) {
            let verdict = Verdict::new(MALFORMED, &detail);
            let letter = headers(Group { id: 1, name: "order" }, &raw, &verdict);
            prop_assert!(letter.len() <= MAX_HEADERS + DEAD_LETTER_HEADERS.len());
            prop_assert!(letter.values().all(|value| value.chars().count() <= MAX_HEADER));
            prop_assert_eq!(&letter["dlq_reason"], MALFORMED);
            prop_assert_eq!(&letter["dlq_offset"], &raw.offset.to_string());
            prop_assert!(short_key(&raw).len() <= MAX_KEY);
            for (event_type, _) in EVENT_TYPES {
                let redacted = redact(event_type, &raw.payload);
                let _ = (event_json(event_type, &raw.payload), event_json(event_type, &redacted));
            }
        }

        #[test]
        fn nothing_but_the_card_token_is_taken_from_a_dead_letter(
            order_id in any::<String>(),
            user_id in any::<String>(),
            card in "tok_secret[!-~]{0,40}",
        ) {
            let placed = OrderPlaced {
                order_id,
                user_id,
                payment_token: card,
                ..OrderPlaced::default()
            };
            let redacted = redact(OrderPlaced::TYPE, &placed.encode_to_vec());
            let left = OrderPlaced { payment_token: String::new(), ..placed };
            prop_assert_eq!(OrderPlaced::decode(redacted.as_slice()), Ok(left));
        }
    }

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
