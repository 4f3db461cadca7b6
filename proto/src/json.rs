//! Events as people read them.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions, Value};

use crate::event::message_name;

/// The only field of any event that is a secret.
const SECRET: &str = "payment_token";

static DESCRIPTORS: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/portolan.bin"));
    DescriptorPool::decode(bytes.as_slice()).ok()
});

/// The payload of an event of that type in the JSON form of protobuf, with the names of the
/// `.proto` file and without the card token. `None` if the type is not ours, or the payload not of
/// that type.
pub fn event_json(event_type: &str, payload: &[u8]) -> Option<String> {
    let descriptors = DESCRIPTORS.as_ref()?;
    let descriptor = descriptors.get_message_by_name(message_name(event_type)?)?;
    let mut message = DynamicMessage::decode(descriptor, payload).ok()?;
    if message.has_field_by_name(SECRET) {
        message.set_field_by_name(SECRET, Value::String("[redacted]".to_owned()));
    }
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut text = Vec::new();
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options).ok()?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{EVENT_TYPES, Event, events::v1::OrderPlaced};

    #[test]
    fn every_type_of_event_can_be_shown() {
        for (event_type, _) in EVENT_TYPES {
            assert_eq!(event_json(event_type, b"").as_deref(), Some("{}"), "{event_type}");
        }
    }

    #[test]
    fn an_event_is_shown_without_its_card_token() {
        let placed = OrderPlaced {
            order_id: "o-1".to_owned(),
            payment_token: "tok_secret".to_owned(),
            ..OrderPlaced::default()
        };
        let shown = event_json(OrderPlaced::TYPE, &placed.encode_to_vec()).unwrap();
        assert_eq!(shown, r#"{"order_id":"o-1","payment_token":"[redacted]"}"#);
    }

    #[test]
    fn what_cannot_be_read_is_not_shown() {
        assert_eq!(event_json(OrderPlaced::TYPE, b"\xff tok_secret"), None);
        assert_eq!(event_json("portolan.unknown.v1", b""), None);
    }
}
