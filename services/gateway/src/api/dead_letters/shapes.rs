//! What is answered about dead letters.

use std::collections::{BTreeMap, HashMap};

use portolan_proto::ops::v1 as proto;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    api::money::{broken, time},
    problem::Problem,
};

/// A record that its consumer group could not apply.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// The consumer group.
    #[schema(example = "inventory")]
    group: &'static str,
    /// The event.
    #[schema(format = Uuid)]
    event_id: String,
    /// The order; for a record without a sound envelope whatever its key says.
    key: String,
    /// The event's type; empty if it has none.
    #[serde(rename = "type")]
    #[schema(example = "portolan.order.placed.v1")]
    kind: String,
    /// Why it is dead, in one word. Empty: it merely waits, behind another event or because a
    /// redrive ended early.
    #[schema(example = "impossible_transition")]
    reason: String,
    /// Why exactly.
    detail: String,
    /// When it was set aside.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// How many events of its order wait behind it.
    waiting: i64,
    /// The trace that it belongs to; empty if it has none.
    trace_id: String,
    /// The Kafka topic that it came from.
    topic: String,
    /// Its partition.
    partition: i32,
    /// Its offset.
    offset: i64,
    /// The size of its message.
    payload_bytes: i64,
    /// The first event of its queue, if it is not this one; null in lists.
    #[schema(required, format = Uuid)]
    behind: Option<String>,
}

impl DeadLetter {
    pub(super) fn new(group: &'static str, letter: proto::DeadLetter) -> Result<Self, Problem> {
        Ok(Self {
            group,
            event_id: letter.event_id,
            key: letter.key,
            kind: letter.r#type,
            reason: letter.reason,
            detail: letter.detail,
            since: time(letter.since, "dead_letter.since")?,
            waiting: letter.waiting,
            trace_id: letter.trace_id,
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            payload_bytes: letter.payload_bytes,
            behind: Some(letter.behind).filter(|first| !first.is_empty()),
        })
    }
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterPage {
    /// The dead letters, by group, the oldest first.
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// A dead letter with its surroundings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterDetails {
    /// The dead letter; null if an operator has dealt with it.
    #[schema(required)]
    dead_letter: Option<DeadLetter>,
    /// The record's headers.
    headers: BTreeMap<String, String>,
    /// The message, without card tokens; null if it cannot be read.
    #[schema(required, value_type = Option<Object>)]
    payload: Option<Value>,
    /// The first 100 events that wait behind it.
    waiting: Vec<WaitingEvent>,
    /// The last 100 things that operators did about its key, the newest first.
    history: Vec<OperatorAction>,
}

/// An event that waits behind a dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaitingEvent {
    /// The event.
    #[schema(format = Uuid)]
    event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    kind: String,
    /// When it was set aside.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// What an operator did, and what became of one event by it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperatorAction {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Who: the subject of the token.
    #[schema(example = "olga")]
    operator: String,
    /// Why.
    reason: String,
    /// `redrive` or `drop`.
    action: String,
    /// The event.
    #[schema(format = Uuid)]
    event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    kind: String,
    /// `applied`, `refused` (nothing changed), `dead` (it waited before) or `dropped`.
    outcome: String,
    /// Why it was refused or is dead.
    detail: String,
    /// The event's trace.
    trace_id: String,
    /// The trace of the operator's request.
    request_trace_id: String,
}

impl DeadLetterDetails {
    pub(super) fn new(group: &'static str, shown: proto::ShowResponse) -> Result<Self, Problem> {
        let waiting = |event: proto::WaitingEvent| {
            let since = time(event.since, "waiting.since")?;
            Ok(WaitingEvent { event_id: event.event_id, kind: event.r#type, since })
        };
        let headers: HashMap<String, String> = shown.headers;
        Ok(Self {
            dead_letter: shown
                .dead_letter
                .map(|letter| DeadLetter::new(group, letter))
                .transpose()?,
            headers: headers.into_iter().collect(),
            payload: serde_json::from_str(&shown.payload_json).ok(),
            waiting: shown.waiting.into_iter().map(waiting).collect::<Result<_, Problem>>()?,
            history: shown
                .history
                .into_iter()
                .map(OperatorAction::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<proto::OperatorAction> for OperatorAction {
    type Error = Problem;

    fn try_from(action: proto::OperatorAction) -> Result<Self, Problem> {
        Ok(Self {
            at: time(action.at, "history.at")?,
            operator: action.operator,
            reason: action.reason,
            action: action.action,
            event_id: action.event_id,
            kind: action.r#type,
            outcome: action.outcome,
            detail: action.detail,
            trace_id: action.trace_id,
            request_trace_id: action.request_trace_id,
        })
    }
}

/// What became of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Handled {
    /// One for each key.
    results: Vec<KeyResult>,
    /// Of a redrive with `all`: the `cursor` to go on with; null when there is no more.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Whether a key's queue came to its end.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Outcome {
    /// Nothing is left of it: the order goes on.
    Applied,
    /// The dead letter still cannot be applied: nothing changed.
    Refused,
    /// An event behind it cannot be applied: that is the dead letter now.
    Stopped,
    /// Something was in the way: try again. What was done before counts.
    Failed,
    /// It waits behind another event, which comes first: nothing changed.
    Waits,
    /// Somebody else, or the redrive of an earlier one, has dealt with it meanwhile.
    Gone,
}

/// What became of one key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyResult {
    /// The consumer group.
    group: &'static str,
    /// The order.
    key: String,
    /// What became of it.
    outcome: Outcome,
    /// How many events were applied.
    applied: i64,
    /// How many events still wait.
    waiting: i64,
    /// What cannot be applied, or is waited for; null if nothing.
    #[schema(required)]
    fault: Option<Fault>,
}

/// An event that is in the way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// The event.
    #[schema(format = Uuid)]
    event_id: String,
    /// Why it cannot be applied, in one word; empty if it is only waited for.
    reason: String,
    /// Why exactly.
    detail: String,
}

impl Handled {
    pub(super) fn new(
        group: &'static str,
        results: Vec<proto::KeyResult>,
        next_cursor: String,
    ) -> Result<Self, Problem> {
        let result = |done: proto::KeyResult| {
            let outcome = match done.outcome() {
                proto::Outcome::Applied => Outcome::Applied,
                proto::Outcome::Refused => Outcome::Refused,
                proto::Outcome::Stopped => Outcome::Stopped,
                proto::Outcome::Failed => Outcome::Failed,
                proto::Outcome::Waits => Outcome::Waits,
                proto::Outcome::Gone => Outcome::Gone,
                proto::Outcome::Unspecified => return Err(broken("result.outcome")),
            };
            let proto::KeyResult { key, applied, waiting, event_id, reason, detail, .. } = done;
            let fault = (!event_id.is_empty()).then_some(Fault { event_id, reason, detail });
            Ok(KeyResult { group, key, outcome, applied, waiting, fault })
        };
        Ok(Self {
            results: results.into_iter().map(result).collect::<Result<_, Problem>>()?,
            next_cursor: Some(next_cursor).filter(|cursor| !cursor.is_empty()),
        })
    }
}

/// A cursor over several groups: the group, and the cursor within it.
pub(super) fn joined(group: &str, cursor: &str) -> String {
    format!("{group}.{cursor}")
}

/// Which of the groups to begin with, and where in it.
pub(super) fn split<C>(
    cursor: &str,
    groups: &[(&'static str, C)],
) -> Result<(usize, String), Problem> {
    if cursor.is_empty() {
        return Ok((0, String::new()));
    }
    let wrong = || Problem::field("cursor", "must be the next_cursor of a previous page");
    let (group, within) = cursor.split_once('.').ok_or_else(wrong)?;
    let place = groups.iter().position(|(name, _)| *name == group).ok_or_else(wrong)?;
    Ok((place, within.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUPS: [(&str, ()); 2] = [("order", ()), ("payment", ())];

    proptest! {
        #[test]
        fn a_cursor_leads_to_its_group_and_the_place_in_it(place in 0..2_usize, within in "[!-~]{0,40}") {
            let (group, ()) = GROUPS[place];
            prop_assert_eq!(split(&joined(group, &within), &GROUPS).unwrap(), (place, within));
        }

        #[test]
        fn no_text_makes_the_reader_of_cursors_panic(text in any::<String>()) {
            if let Err(problem) = split(&text, &GROUPS) {
                prop_assert_eq!(problem.status.as_u16(), 422);
            }
        }
    }
}
