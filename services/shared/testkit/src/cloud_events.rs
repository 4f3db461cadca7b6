//! What makes a Kafka record one of CloudEvents: version 1.0.2 of the specification, its Kafka protocol
//! binding in binary mode (section 3.2), and its partitioning and distributed-tracing extensions.

use std::collections::{BTreeMap, BTreeSet};

use portolan_proto::{EVENT_TYPES, event_json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::TestRecord;

const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// Longer names are advised against, so that every protocol can carry them.
const MAX_NAME: usize = 20;

/// Checks one record.
///
/// # Errors
/// A sentence on the first rule that it breaks.
pub fn cloud_event(record: &TestRecord) -> Result<(), String> {
    let attributes = attributes(record)?;
    let get = |name: &str| attributes.get(name).copied();
    for name in REQUIRED {
        check(get(name).is_some(), || format!("{name} is required"))?;
    }
    check(get("specversion") == Some("1.0"), || "specversion must be 1.0".to_owned())?;
    let source = get("source").unwrap_or_default();
    check(is_uri_reference(source), || format!("source is no URI reference: {source}"))?;
    if let Some(time) = get("time") {
        let sound = OffsetDateTime::parse(time, &Rfc3339).is_ok();
        check(sound, || format!("time is not as RFC 3339 has it: {time}"))?;
    }
    // The content type is the attribute datacontenttype; structured mode would begin otherwise.
    let content_type = record.header("content-type").unwrap_or_default();
    check(content_type == "application/protobuf", || format!("content-type: {content_type:?}"))?;
    check(get("datacontenttype").is_none(), || "datacontenttype is content-type here".to_owned())?;
    let key = get("partitionkey").map(str::as_bytes);
    check(key == Some(record.key.as_slice()), || "the key is not the partitionkey".to_owned())?;
    if let Some(trace) = record.header("traceparent") {
        check(is_traceparent(trace), || format!("traceparent: {trace}"))?;
    }
    ours(&attributes, record)
}

/// Checks all records of all topics together: ids name one event each within their source.
///
/// # Errors
/// As [`cloud_event`], or two events with one id.
pub fn cloud_events<'a>(records: impl IntoIterator<Item = &'a TestRecord>) -> Result<(), String> {
    let mut known: BTreeMap<(String, String), &TestRecord> = BTreeMap::new();
    for record in records {
        cloud_event(record).map_err(|fault| format!("{fault}: {record:?}"))?;
        let header = |name| record.header(name).unwrap_or_default().to_owned();
        let first = known.entry((header("ce_source"), header("ce_id"))).or_insert(record);
        // Delivered again it is the same.
        let same = (&first.key, &first.headers, &first.payload)
            == (&record.key, &record.headers, &record.payload);
        check(same, || format!("two events with one id: {first:?}, {record:?}"))?;
    }
    Ok(())
}

fn check(holds: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault()) }
}

/// The attributes by their names, each once, with names and values as the type system allows.
fn attributes(record: &TestRecord) -> Result<BTreeMap<&str, &str>, String> {
    let mut seen = BTreeSet::new();
    let mut attributes = BTreeMap::new();
    for (header, value) in &record.headers {
        check(seen.insert(header), || format!("{header} is there twice"))?;
        let value = std::str::from_utf8(value).map_err(|_| format!("{header} is not UTF-8"))?;
        let plain = !value.is_empty() && !value.chars().any(char::is_control);
        check(plain, || format!("{header} is empty or has control characters"))?;
        let Some(name) = header.strip_prefix("ce_") else { continue };
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let named = !name.is_empty() && name.bytes().all(letters) && name.len() <= MAX_NAME;
        check(named, || format!("{name} is no name of an attribute"))?;
        attributes.insert(name, value);
    }
    Ok(attributes)
}

/// RFC 3986 section 4.1, as far as its characters go.
fn is_uri_reference(text: &str) -> bool {
    let bytes = text.as_bytes();
    let allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(byte);
    let escapes = text.match_indices('%').all(|(at, _)| {
        bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    !text.is_empty() && bytes.iter().all(allowed) && escapes
}

/// W3C trace context, version 00.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2]
        && parts.iter().all(|part| hex(part))
        && parts.first() == Some(&"00")
        && !parts.iter().skip(1).take(2).any(|part| zero(part))
}

/// What every event of Portolan has beyond that.
fn ours(attributes: &BTreeMap<&str, &str>, record: &TestRecord) -> Result<(), String> {
    let get = |name: &str| attributes.get(name).copied().unwrap_or_default();
    let (event_type, source) = (get("type"), get("source"));
    let listed = EVENT_TYPES.iter().find(|(name, _)| *name == event_type);
    let producer = listed.map(|(_, topic)| topic.source());
    check(producer == Some(source), || format!("{source} does not tell {event_type}"))?;
    let version_7 = Uuid::try_parse(get("id")).is_ok_and(|id| id.get_version_num() == 7);
    check(version_7, || "the id is no UUIDv7".to_owned())?;
    check(get("subject") == get("partitionkey"), || "the subject is not the order".to_owned())?;
    // As the attribute type Integer, which has 32 bits.
    let version = get("aggregateversion").parse::<i32>();
    check(version.is_ok_and(|version| version > 0), || "aggregateversion".to_owned())?;
    let message = event_json(event_type, &record.payload);
    check(message.is_some(), || format!("the data is no {event_type}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "019aa5b6-7c00-7000-8000-000000000001";

    fn record() -> TestRecord {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", "019aa5b6-7c00-7000-8000-000000000002"),
            ("ce_type", "portolan.order.confirmed.v1"),
            ("ce_source", "/portolan/order"),
            ("ce_time", "2026-11-21T08:00:00Z"),
            ("ce_subject", ORDER),
            ("ce_partitionkey", ORDER),
            ("ce_aggregateversion", "2"),
            ("content-type", "application/protobuf"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.as_bytes().to_vec());
        TestRecord {
            partition: 0,
            offset: 0,
            key: ORDER.as_bytes().to_vec(),
            headers: headers.map(owned).into(),
            payload: Vec::new(),
        }
    }

    fn with(name: &str, value: &str) -> TestRecord {
        let mut record = record();
        record.headers.retain(|(other, _)| other != name);
        record.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        record
    }

    #[test]
    fn a_sound_record_is_one() {
        assert_eq!(cloud_event(&record()), Ok(()));
        assert_eq!(cloud_event(&with("ce_time", "2026-11-21T09:00:00.123456789+01:00")), Ok(()));
    }

    #[test]
    fn every_rule_is_looked_at() {
        for (name, bad) in [
            ("ce_specversion", "1.1"),
            ("ce_id", ""),
            ("ce_id", "7"),
            ("ce_source", "not a reference"),
            ("ce_source", "/portolan/%zz"),
            ("ce_source", "/portolan/payment"),
            ("ce_type", "portolan.order.confirmed.v2"),
            ("ce_time", "2026-11-21 08:00:00"),
            ("ce_time", "2026-11-21T08:00:00"),
            ("ce_subject", "another"),
            ("ce_partitionkey", "another"),
            ("ce_aggregateversion", "0"),
            ("ce_aggregateversion", "2147483648"),
            ("ce_AggregateVersion", "2"),
            ("ce_with_underscore", "x"),
            ("ce_morethantwentyletters", "x"),
            ("ce_datacontenttype", "application/protobuf"),
            ("ce_note", "a\nb"),
            ("content-type", "application/cloudevents+json"),
            ("content-type", ""),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"),
            ("traceparent", "nonsense"),
        ] {
            assert!(cloud_event(&with(name, bad)).is_err(), "{name}: {bad}");
        }
        for name in REQUIRED {
            let mut record = record();
            record.headers.retain(|(other, _)| *other != format!("ce_{name}"));
            assert!(cloud_event(&record).is_err(), "without {name}");
        }
        let mut twice = record();
        twice.headers.push(("ce_id".to_owned(), b"x".to_vec()));
        let mut unkeyed = record();
        unkeyed.key.clear();
        let mut unreadable = record();
        unreadable.payload = vec![0xff];
        for record in [twice, unkeyed, unreadable] {
            assert!(cloud_event(&record).is_err(), "{record:?}");
        }
    }

    #[test]
    fn an_id_names_one_event_of_its_source() {
        let again = TestRecord { offset: 7, ..record() };
        assert_eq!(cloud_events([&record(), &again]), Ok(()));
        let another = with("ce_time", "2026-11-21T08:00:01Z");
        assert!(cloud_events([&record(), &another]).is_err());
    }
}
