//! The description as `AsyncAPI` 3.0, made from what the services themselves use: topics, types,
//! groups with their subscriptions, and the headers of a real event.

use std::collections::BTreeSet;

use portolan_kernel::OrderId;
use portolan_messaging::{
    Group, Outgoing,
    topics::{DEAD_LETTER_HEADERS, PARTITIONS, SETTINGS, dead_letter_topic, group_id},
};
use portolan_proto::{EVENT_TYPES, TOPICS, Topic, events::v1::OrderPlaced, message_name};
use portolan_runtime::telemetry::TraceContext;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

const BINDING: &str = "0.5.0";
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Every consumer group with what it listens to.
fn subscriptions() -> [(Group, &'static [Topic]); 4] {
    [
        (portolan_order::consumer::GROUP, portolan_order::consumer::TOPICS),
        (portolan_inventory::GROUP, portolan_inventory::TOPICS),
        (portolan_payment::consumer::GROUP, portolan_payment::consumer::TOPICS),
        (portolan_notification::GROUP, portolan_notification::TOPICS),
    ]
}

/// The whole description.
pub(crate) fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Portolan's events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the services tell one another over Kafka: CloudEvents 1.0 in \
                binary mode, delivered at least once, in order for each order and topic. \
                docs/EVENTS.md says when each is told, who reacts and how.",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/protobuf",
        "servers": {
            "local": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "The broker that `make up` starts",
            },
        },
        "channels": channels(),
        "operations": operations(),
        "components": { "messages": messages(), "schemas": schemas() },
    })
}

/// The service that writes a topic: the last word of its source.
fn owner(topic: Topic) -> &'static str {
    topic.source().rsplit('/').next().unwrap_or_default()
}

/// The name of a type in this document: without what all of them begin and end with.
fn short(event_type: &str) -> &str {
    let name = event_type.strip_prefix("portolan.").unwrap_or(event_type);
    name.strip_suffix(".v1").unwrap_or(name)
}

fn of_topic(topic: Topic) -> impl Iterator<Item = &'static str> {
    EVENT_TYPES.iter().filter(move |(_, of)| *of == topic).map(|(event_type, _)| *event_type)
}

fn reference(pointer: &str) -> Value {
    json!({ "$ref": format!("#/{pointer}") })
}

fn channels() -> Map<String, Value> {
    let mut channels = Map::new();
    for topic in TOPICS {
        let messages: Map<String, Value> = of_topic(topic)
            .map(short)
            .map(|name| (name.to_owned(), reference(&format!("components/messages/{name}"))))
            .collect();
        let description = format!("What the {} service has decided or done", owner(topic));
        let channel = channel(topic.name(), &description, &messages);
        channels.insert(owner(topic).to_owned(), channel);
    }
    for (group, _) in subscriptions() {
        let messages = Map::from_iter([(
            "dead_letter".to_owned(),
            reference("components/messages/dead_letter"),
        )]);
        let description = format!("What the {} service could not apply", group.name);
        let channel = channel(&dead_letter_topic(group.name), &description, &messages);
        channels.insert(format!("dlq.{}", group.name), channel);
    }
    channels
}

fn channel(address: &str, description: &str, messages: &Map<String, Value>) -> Value {
    let number = |text: &str| text.parse::<u64>().map_or_else(|_| json!(text), |n| json!(n));
    let settings: Map<String, Value> =
        SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), number(value))).collect();
    json!({
        "address": address,
        "description": description,
        "messages": messages,
        "bindings": { "kafka": {
            "partitions": PARTITIONS,
            "topicConfiguration": settings,
            "bindingVersion": BINDING,
        } },
    })
}

fn operations() -> Map<String, Value> {
    let mut operations = Map::new();
    for topic in TOPICS {
        let name = owner(topic);
        operations.insert(
            format!("{name}.tells"),
            json!({
                "action": "send",
                "channel": reference(&format!("channels/{name}")),
                "summary": format!("Only the {name} service writes this topic"),
            }),
        );
    }
    for (group, topics) in subscriptions() {
        for topic in topics {
            let from = owner(*topic);
            operations.insert(format!("{}.hears.{from}", group.name), hears(group, from));
        }
        operations.insert(
            format!("{}.sets_aside", group.name),
            json!({
                "action": "send",
                "channel": reference(&format!("channels/dlq.{}", group.name)),
                "summary": "A copy for people: the record itself is in the service's database",
            }),
        );
    }
    operations
}

fn hears(group: Group, from: &str) -> Value {
    json!({
        "action": "receive",
        "channel": reference(&format!("channels/{from}")),
        "bindings": { "kafka": {
            "groupId": { "type": "string", "const": group_id(group.name) },
            "bindingVersion": BINDING,
        } },
    })
}

fn messages() -> Map<String, Value> {
    let mut messages: Map<String, Value> = EVENT_TYPES
        .iter()
        .map(|(event_type, topic)| (short(event_type).to_owned(), message(event_type, *topic)))
        .collect();
    messages.insert(
        "dead_letter".to_owned(),
        json!({
            "name": "dead_letter",
            "title": "A record that could not be applied",
            "description": "The record's own headers, shortened, and these. Without the card \
                token; without any payload if the envelope could not be read.",
            "headers": reference("components/schemas/DeadLetterHeaders"),
            "payload": {},
            "bindings": key("The record's key, shortened to 256 bytes"),
        }),
    );
    messages
}

fn message(event_type: &str, topic: Topic) -> Value {
    let message = message_name(event_type).unwrap_or_default();
    json!({
        "name": event_type,
        "title": message.rsplit('.').next(),
        "headers": { "allOf": [
            reference("components/schemas/Envelope"),
            { "type": "object", "properties": {
                "ce_type": { "const": event_type },
                "ce_source": { "const": topic.source() },
            } },
        ] },
        "payload": {
            "schemaFormat": "application/vnd.google.protobuf;version=3",
            "schema": { "$ref": "../proto/portolan/events/v1/events.proto" },
        },
        "x-protobuf-message": message,
        "bindings": key("The order id"),
    })
}

fn key(description: &str) -> Value {
    json!({ "kafka": {
        "key": { "type": "string", "description": description },
        "bindingVersion": BINDING,
    } })
}

/// The names of the headers that an event has, with or without a trace.
pub(crate) fn written(trace: &TraceContext) -> BTreeSet<String> {
    let (id, order) = (Uuid::nil(), OrderId(Uuid::nil()));
    let at = OffsetDateTime::UNIX_EPOCH;
    let event = Outgoing::new(id, order, 1, at, trace, &OrderPlaced::default());
    event.headers().keys().cloned().collect()
}

fn schemas() -> Value {
    let (all, always) = (written(&TraceContext::parse(TRACE)), written(&TraceContext::none()));
    let envelope: Map<String, Value> =
        all.into_iter().map(|name| (name.clone(), header(&name))).collect();
    let dead: Map<String, Value> =
        DEAD_LETTER_HEADERS.iter().map(|name| ((*name).to_owned(), header(name))).collect();
    json!({
        "Envelope": { "type": "object", "required": always, "properties": envelope },
        "DeadLetterHeaders": {
            "type": "object", "required": DEAD_LETTER_HEADERS, "properties": dead,
        },
    })
}

/// What a header holds. Kafka's are bytes: these are UTF-8 text.
fn header(name: &str) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let form = |pattern: &str, description: &str| json!({ "type": "string", "pattern": pattern, "description": description });
    match name {
        "ce_specversion" => json!({ "const": "1.0" }),
        "ce_id" => form(UUID, "A UUIDv7, the same at every delivery"),
        "ce_type" => text("The type, which names the message"),
        "ce_source" => text("The service that produced it"),
        "ce_time" => json!({
            "type": "string", "format": "date-time",
            "description": "When the producer recorded it (RFC 3339)",
        }),
        "ce_subject" | "ce_partitionkey" => json!({
            "type": "string", "format": "uuid", "description": "The order id, as the key",
        }),
        "ce_aggregateversion" => form(
            "^[1-9][0-9]*$",
            "The version of the order, reservation, payment or notification that it reports",
        ),
        "content-type" => json!({ "const": "application/protobuf" }),
        "traceparent" => form(
            "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
            "The W3C trace context of what caused it, if there is one",
        ),
        "dlq_group" => json!({
            "enum": subscriptions().map(|(group, _)| group.name), "description": "Who could not apply it",
        }),
        "dlq_reason" => text("Why, in a word"),
        "dlq_detail" => text("Why exactly"),
        "dlq_topic" => text("The topic that it came from"),
        "dlq_partition" => form("^[0-9]+$", "Its partition"),
        "dlq_offset" => form("^[0-9]+$", "Its offset"),
        // A header that is new here is found by the test that compares them.
        _ => json!({}),
    }
}
