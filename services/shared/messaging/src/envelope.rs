//! The envelope of every record: CloudEvents 1.0 in the Kafka protocol binding's binary mode.
//! Attributes are `ce_*` headers, the value is the protobuf message alone, and the key is the
//! order id (the `partitionkey` extension).

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use portolan_kernel::OrderId;
use portolan_proto::Event;
use portolan_runtime::telemetry::TraceContext;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use time::{Date, Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use tracing::Span;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::HandlerError;

pub(crate) const CONTENT_TYPE: &str = "application/protobuf";
/// Extension attribute: the version of the aggregate whose change the event reports.
pub(crate) const VERSION_HEADER: &str = "ce_aggregateversion";

/// Text headers as they are stored in the database.
pub(crate) type HeaderMap = BTreeMap<String, String>;

/// A consumed event whose envelope is sound.
#[derive(Clone, Debug)]
pub struct Record {
    /// The CloudEvents `id`: a UUIDv7, the same at every delivery.
    pub event_id: Uuid,
    /// The CloudEvents `type`.
    pub event_type: String,
    /// The CloudEvents `source`: the service that produced it.
    pub source: String,
    /// The CloudEvents `time`: when the producer recorded it.
    pub time: OffsetDateTime,
    /// The version of the aggregate whose change the event reports.
    pub version: i64,
    /// The order it is about.
    pub key: OrderId,
    /// The trace it belongs to.
    pub trace: TraceContext,
    /// The protobuf message.
    pub payload: Vec<u8>,
    /// The topic, with the deployment's prefix.
    pub topic: String,
    /// The Kafka partition.
    pub partition: i32,
    /// The Kafka offset.
    pub offset: i64,
}

impl Record {
    /// Whether this is an event of type `E`.
    pub fn is<E: Event>(&self) -> bool {
        self.event_type == E::TYPE
    }

    /// The message.
    ///
    /// # Errors
    /// The payload is not a message of type `E`: poison.
    pub fn decode<E: Event>(&self) -> Result<E, HandlerError> {
        E::decode(self.payload.as_slice())
            .map_err(|error| HandlerError::poison("undecodable_payload", error.to_string()))
    }

    /// A consumer span in the event's own trace.
    pub fn span(&self) -> Span {
        let span = tracing::info_span!(
            "process",
            otel.kind = "consumer",
            otel.name = %format_args!("process {}", self.event_type),
            messaging.system = "kafka",
            messaging.operation.type = "process",
            messaging.destination.name = %self.topic,
            messaging.destination.partition.id = self.partition,
            messaging.kafka.offset = self.offset,
            order.id = %self.key,
            event.id = %self.event_id,
        );
        self.trace.set_parent(&span);
        span
    }
}

/// What Kafka delivered, owned, before anything is believed about it.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) fn from_message(message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().unwrap_or_default().to_vec(),
            headers: headers_of(message),
            payload: message.payload().unwrap_or_default().to_vec(),
        }
    }

    /// Reads the envelope.
    ///
    /// # Errors
    /// A word on the first thing that is wrong with it.
    pub(crate) fn decode(&self, now: OffsetDateTime) -> Result<Record, Malformed> {
        let event_id = self.event_id()?;
        if uuid_time(event_id) > now + Duration::DAY {
            return Err(Malformed("ce_id is more than a day in the future"));
        }
        self.require("ce_specversion", |value| (value == "1.0").then_some(()))?;
        let key = std::str::from_utf8(&self.key).ok().and_then(|text| text.parse::<OrderId>().ok());
        // Locks and parking go by the bytes: another spelling of the same id must not pass.
        let key = key.filter(|key| key.to_string().as_bytes() == self.key);
        Ok(Record {
            event_id,
            event_type: self.require("ce_type", |value| Some(value.to_owned()))?,
            source: self.require("ce_source", |value| Some(value.to_owned()))?,
            time: self.require("ce_time", read_time)?,
            version: self.require(VERSION_HEADER, |value| value.parse().ok().filter(|v| *v > 0))?,
            key: key.ok_or(Malformed("the key is not an order id"))?,
            trace: self
                .headers
                .get("traceparent")
                .map_or_else(TraceContext::default, |value| TraceContext::parse(value)),
            payload: self.payload.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
        })
    }

    /// What an unreadable record is known by: an id made from where it stands. The id that it may
    /// claim is not to be trusted: the event that has it would be taken for a duplicate.
    pub(crate) fn place_id(&self) -> Uuid {
        let place = format!("{}/{}/{}", self.topic, self.partition, self.offset);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&xxh3_64(place.as_bytes()).to_be_bytes());
        let millis = u64::try_from(self.timestamp_ms).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    fn event_id(&self) -> Result<Uuid, Malformed> {
        self.headers
            .get("ce_id")
            .and_then(|value| Uuid::try_parse(value).ok())
            .filter(|id| id.get_version_num() == 7)
            .ok_or(Malformed("ce_id is not a UUIDv7"))
    }

    fn require<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Malformed> {
        self.headers.get(name).and_then(|value| read(value)).ok_or(Malformed(match name {
            "ce_specversion" => "ce_specversion is not 1.0",
            "ce_type" => "ce_type is missing",
            "ce_source" => "ce_source is missing",
            "ce_time" => "ce_time is not an RFC 3339 time",
            _ => "ce_aggregateversion is not a positive number",
        }))
    }
}

/// What is wrong with an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The headers of an event about to be stored in the outbox.
pub(crate) fn headers<E: Event>(
    id: Uuid,
    key: OrderId,
    version: i64,
    at: OffsetDateTime,
    trace: &TraceContext,
) -> HeaderMap {
    let mut headers = HeaderMap::from([
        ("ce_specversion".to_owned(), "1.0".to_owned()),
        ("ce_id".to_owned(), id.to_string()),
        ("ce_type".to_owned(), E::TYPE.to_owned()),
        ("ce_source".to_owned(), E::TOPIC.source().to_owned()),
        ("ce_time".to_owned(), at.format(&Rfc3339).unwrap_or_default()),
        ("ce_subject".to_owned(), key.to_string()),
        ("ce_partitionkey".to_owned(), key.to_string()),
        (VERSION_HEADER.to_owned(), version.to_string()),
        ("content-type".to_owned(), CONTENT_TYPE.to_owned()),
    ]);
    if !trace.as_str().is_empty() {
        headers.insert("traceparent".to_owned(), trace.as_str().to_owned());
    }
    headers
}

/// The UTC day of a UUIDv7: the partition its inbox and log rows live in.
pub(crate) fn event_day(id: Uuid) -> Date {
    uuid_time(id).date()
}

fn uuid_time(id: Uuid) -> OffsetDateTime {
    let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |stamp| stamp.to_unix());
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        + Duration::nanoseconds(i64::from(nanos))
}

/// An RFC 3339 time that exists in UTC too.
fn read_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)
}

/// The headers as text. The client library panics on a header name that is not UTF-8; such a
/// record has no headers we could use, and is found malformed for it.
fn headers_of(message: &BorrowedMessage<'_>) -> HeaderMap {
    let read = || {
        let headers = message.headers()?.iter();
        Some(
            headers
                .map(|h| (clean(h.key.as_bytes()), clean(h.value.unwrap_or_default())))
                .collect(),
        )
    };
    catch_unwind(AssertUnwindSafe(read)).ok().flatten().unwrap_or_default()
}

/// Header text that PostgreSQL's `jsonb` can hold.
fn clean(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use portolan_proto::events::v1::OrderConfirmed;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const ID: Uuid = Uuid::from_u128(0x019a_a5b6_7c00_7000_8000_0000_0000_0001);
    const NOW: OffsetDateTime = datetime!(2026-11-21 08:00 UTC);

    fn sound() -> Raw {
        Raw {
            topic: "portolan.order.v1".to_owned(),
            partition: 3,
            offset: 7,
            timestamp_ms: 1_795_248_000_000,
            key: ID.to_string().into_bytes(),
            headers: headers::<OrderConfirmed>(ID, OrderId(ID), 2, NOW, &TraceContext::default()),
            payload: Vec::new(),
        }
    }

    #[test]
    fn an_envelope_survives_the_way_through_kafka() {
        let record = sound().decode(NOW).unwrap();
        assert_eq!((record.event_id, record.version, record.time), (ID, 2, NOW));
        assert!(record.is::<OrderConfirmed>());
        assert_eq!(record.key, OrderId(ID));
    }

    #[test]
    fn each_missing_attribute_is_named() {
        for name in ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", VERSION_HEADER] {
            let mut raw = sound();
            raw.headers.remove(name);
            let Malformed(reason) = raw.decode(NOW).unwrap_err();
            assert!(reason.contains(name), "{name}: {reason}");
        }
    }

    #[test]
    fn an_event_from_the_day_after_tomorrow_is_malformed() {
        assert!(sound().decode(uuid_time(ID) - Duration::hours(25)).is_err());
        assert!(sound().decode(uuid_time(ID) - Duration::hours(23)).is_ok());
    }

    #[test]
    fn a_time_that_does_not_exist_in_utc_is_malformed() {
        let mut raw = sound();
        raw.headers.insert("ce_time".to_owned(), "9999-12-31T23:59:59-23:59".to_owned());
        assert!(raw.decode(NOW).is_err());
    }

    #[test]
    fn another_spelling_of_the_order_id_is_malformed() {
        let mut raw = sound();
        raw.key = ID.to_string().to_uppercase().into_bytes();
        assert!(raw.decode(NOW).is_err());
    }

    #[test]
    fn an_unreadable_record_has_the_same_id_at_every_delivery() {
        let mut raw = sound();
        raw.headers.clear();
        let twin = raw.clone();
        assert_eq!(raw.place_id(), twin.place_id());
        raw.offset += 1;
        assert_ne!(raw.place_id(), twin.place_id());
        assert_eq!(twin.place_id().get_version_num(), 7);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            key in proptest::collection::vec(any::<u8>(), 0..64),
            names in proptest::collection::vec("(ce_[a-z]{1,12}|traceparent|.{0,8})", 0..12),
            value in ".{0,64}",
        ) {
            let mut raw = sound();
            raw.key = key;
            for name in names { raw.headers.insert(name, value.clone()); }
            let _ = raw.decode(NOW);
            let _ = raw.place_id();
        }

        #[test]
        fn no_value_of_an_attribute_makes_the_decoder_panic(
            name in proptest::sample::select(&["ce_id", "ce_time", VERSION_HEADER, "traceparent"]),
            value in prop_oneof!["[0-9a-fTZ:+. -]{0,60}", any::<String>()],
        ) {
            let mut raw = sound();
            raw.headers.insert(name.to_owned(), value);
            let _ = raw.decode(NOW);
        }

        #[test]
        fn every_event_that_is_sent_is_read_as_it_was_sent(
            millis in 0..4_102_444_800_000_u64,
            random in any::<[u8; 10]>(),
            order in any::<u128>(),
            version in 1..=i64::MAX,
            nanos in 0..253_402_300_800_000_000_000_i128,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
            let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
            let order = OrderId(Uuid::from_u128(order));
            let trace = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            let headers = headers::<OrderConfirmed>(id, order, version, at, &trace);
            let key = order.to_string().into_bytes();
            let raw = Raw { key, headers, payload: payload.clone(), ..sound() };
            let record = raw.decode(uuid_time(id)).unwrap();
            prop_assert_eq!((record.event_id, record.key, record.version), (id, order, version));
            prop_assert_eq!((record.time, record.payload), (at, payload));
            prop_assert_eq!(record.event_type, OrderConfirmed::TYPE);
            prop_assert_eq!(record.source, OrderConfirmed::TOPIC.source());
            prop_assert_eq!(record.trace.as_str(), trace.as_str());
        }
    }
}
