//! Dead letters as people read them.

use serde_json::Value;

use super::{Letter, remedy::KeyResult};

/// What a letter without a reason is.
const UNFINISHED: &str = "a redrive ended early: redrive again";

/// What an empty list says: not that there is nothing when somebody did not answer.
fn nothing(complete: bool) -> String {
    if complete { "no dead letters" } else { "no dead letters seen" }.to_owned()
}

pub(super) fn list(letters: &[Letter], complete: bool) -> String {
    if letters.is_empty() {
        return nothing(complete);
    }
    let lines: Vec<String> = letters.iter().map(entry).collect();
    format!("{}\n{} in all", lines.join("\n"), letters.len())
}

fn entry(letter: &Letter) -> String {
    let Letter { group, event_id, key, kind, since, waiting, topic, partition, offset, .. } =
        letter;
    let cause = match (letter.reason.as_str(), &letter.behind) {
        ("", Some(first)) => format!("waits behind {first}"),
        ("", None) => UNFINISHED.to_owned(),
        (reason, _) => format!("{reason}: {}", letter.detail),
    };
    let trace = letter.trace_url.as_ref().unwrap_or(&letter.trace_id);
    format!(
        "{group}  {event_id}  {kind}\n  key      {key}, {waiting} waiting behind it\n  \
         cause    {cause}\n  since    {since}\n  from     {topic}/{partition}@{offset}\n  \
         trace    {trace}"
    )
}

pub(super) fn results(results: &[KeyResult], complete: bool) -> String {
    if results.is_empty() {
        return nothing(complete);
    }
    let line = |done: &KeyResult| {
        let KeyResult { group, key, outcome, applied, waiting, fault } = done;
        let fault = fault.as_ref().map_or_else(String::new, |fault| match fault.reason.as_str() {
            "" => format!(" behind {}", fault.event_id),
            reason => format!("\n  {}: {reason}: {}", fault.event_id, fault.detail),
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
        let text = list(&[letter], true);
        for part in
            ["impossible_transition: why", "portolan.order.v1/3@7", "trace    0af7", "o-1, 2"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let unfinished: Letter = serde_json::from_value(dead("")).unwrap();
        assert!(list(&[unfinished], true).contains(UNFINISHED));
        let mut waiting = dead("");
        waiting["behind"] = "e-0".into();
        let waiting: Letter = serde_json::from_value(waiting).unwrap();
        assert!(list(&[waiting], true).contains("waits behind e-0"));
        assert_eq!(list(&[], true), "no dead letters");
        assert_ne!(list(&[], false), list(&[], true));
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
