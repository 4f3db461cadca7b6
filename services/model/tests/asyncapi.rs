//! `docs/asyncapi.json` is what the services do.

#[path = "../examples/asyncapi/document.rs"]
mod document;

use std::collections::BTreeSet;

use portolan_messaging::topics;
use portolan_proto::EVENT_TYPES;
use serde_json::Value;

const COMMITTED: &str = include_str!("../../../docs/asyncapi.json");

#[test]
fn the_committed_description_is_that_of_the_code() {
    let committed: Value = serde_json::from_str(COMMITTED).unwrap();
    assert!(
        committed == document::document(),
        "regenerate it: cargo run -p portolan-model --example asyncapi > docs/asyncapi.json"
    );
}

#[test]
fn every_topic_type_and_header_is_described() {
    let document = document::document();
    let channels = document["channels"].as_object().unwrap();
    let described: BTreeSet<&str> =
        channels.values().map(|channel| channel["address"].as_str().unwrap()).collect();
    let topics = topics::names();
    assert_eq!(described, topics.iter().map(String::as_str).collect());
    let messages = document["components"]["messages"].as_object().unwrap();
    let types: BTreeSet<&str> =
        messages.values().map(|message| message["name"].as_str().unwrap()).collect();
    let known: BTreeSet<&str> = EVENT_TYPES.iter().map(|(event_type, _)| *event_type).collect();
    assert_eq!(types.difference(&known).copied().collect::<Vec<_>>(), ["dead_letter"]);
    assert!(known.is_subset(&types));
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (header, meaning) in schema["properties"].as_object().unwrap() {
            assert!(!meaning.as_object().unwrap().is_empty(), "{name}: {header} is new");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document::document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{}", found.len());
    for target in found {
        if let Some(pointer) = target.strip_prefix('#') {
            assert!(document.pointer(pointer).is_some(), "{target}");
        } else {
            let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
            assert!(docs.join(&target).is_file(), "{target}");
        }
    }
}
