//! Dead letters as people read them.

use serde_json::Value;

use super::{KeyResult, Letter};

/// What a letter without a reason is.
const UNFINISHED: &str = "a redrive ended early: redrive again";

pub(super) fn list(letters: &[Letter]) -> String {
    if letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let lines: Vec<String> = letters.iter().map(entry).collect();
    format!("{}\n{} in all", lines.join("\n"), letters.len())
}

fn entry(letter: &Letter) -> String {
    let Letter { group, event_id, key, kind, since, waiting, topic, partition, offset, .. } =
        letter;
    let cause = match letter.reason.as_str() {
        "" => UNFINISHED.to_owned(),
        reason => format!("{reason}: {}", letter.detail),
    };
    let trace = letter.trace_url.as_ref().unwrap_or(&letter.trace_id);
    format!(
        "{group}  {event_id}  {kind}\n  key      {key}, {waiting} waiting behind it\n  \
         cause    {cause}\n  since    {since}\n  from     {topic}/{partition}@{offset}\n  \
         trace    {trace}"
    )
}

pub(super) fn results(results: &[KeyResult]) -> String {
    if results.is_empty() {
        return "no dead letters".to_owned();
    }
    let line = |done: &KeyResult| {
        let KeyResult { group, key, outcome, applied, waiting, fault } = done;
        let fault = fault.as_ref().map_or_else(String::new, |fault| {
            format!("\n  {}: {}: {}", fault.event_id, fault.reason, fault.detail)
        });
        format!("{group}  {key}  {outcome}, {applied} applied, {waiting} waiting{fault}")
    };
    results.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One with its surroundings, from the gateway's document.
pub(super) fn letter(shown: &Value) -> String {
    let mut lines = vec![match serde_json::from_value::<Letter>(shown["dead_letter"].clone()) {
        Ok(letter) => entry(&letter),
        Err(_) => "dealt with".to_owned(),
    }];
    if !shown["payload"].is_null() {
        lines.push(format!("  message  {}", shown["payload"]));
    }
    let each = |name: &str| shown[name].as_array().cloned().unwrap_or_default();
    for event in each("waiting") {
        lines.push(format!("  waiting  {}  {}", word(&event, "event_id"), word(&event, "type")));
    }
    for action in each("history") {
        let [at, operator, action, event, reason, outcome] =
            ["at", "operator", "action", "event_id", "reason", "outcome"]
                .map(|name| word(&action, name).to_owned());
        lines.push(format!("  history  {at}  {operator} {action} {event} ({reason}): {outcome}"));
    }
    lines.join("\n")
}

fn word<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dead(reason: &str) -> Value {
        json!({
            "group": "payment", "event_id": "e-1", "key": "o-1", "type": "portolan.order.confirmed.v1",
            "reason": reason, "detail": "why", "since": "2026-11-21T08:00:00Z", "waiting": 2,
            "trace_id": "0af7", "topic": "portolan.order.v1", "partition": 3, "offset": 7,
        })
    }

    #[test]
    fn a_dead_letter_is_shown_with_its_cause_its_place_and_its_trace() {
        let letter: Letter = serde_json::from_value(dead("impossible_transition")).unwrap();
        let text = list(&[letter]);
        for part in
            ["impossible_transition: why", "portolan.order.v1/3@7", "trace    0af7", "o-1, 2"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let unfinished: Letter = serde_json::from_value(dead("")).unwrap();
        assert!(list(&[unfinished]).contains(UNFINISHED));
        assert_eq!(list(&[]), "no dead letters");
    }

    #[test]
    fn what_was_done_is_shown_with_who_and_why() {
        let action = json!({
            "at": "t", "operator": "olga", "action": "redrive", "event_id": "e-1", "reason": "fixed",
            "outcome": "applied",
        });
        let text = letter(&json!({"dead_letter": null, "payload": null, "history": [action]}));
        assert!(text.contains("olga redrive e-1 (fixed): applied"), "{text}");
    }
}
