//! `portolan.ops.v1.DeadLetterService`, the same for every group.

use portolan_proto::{
    event_json,
    ops::v1::{self as pb, selection::Target as Chosen},
};
use portolan_runtime::{database, grpc::status};
use prost_types::Timestamp;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    DeadLetters, Fault, KeyResult, OpsError, Outcome, Target, Warrant, key_text,
    rows::{self, Row},
    view::{self, Entry, Past, Waiting},
};
use crate::handler::Handler;

/// Every method, by the name that callers are allowed it by.
pub const METHODS: [&str; 4] = [
    "portolan.ops.v1.DeadLetterService/List",
    "portolan.ops.v1.DeadLetterService/Show",
    "portolan.ops.v1.DeadLetterService/Redrive",
    "portolan.ops.v1.DeadLetterService/Drop",
];

const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;
/// Keys that one call of "all" deals with: a caller does not wait for ever.
const KEYS_A_CALL: i64 = 10;
/// Waiting events and actions that are shown.
const SHOWN: i64 = 100;

#[tonic::async_trait]
impl<H: Handler> pb::dead_letter_service_server::DeadLetterService for DeadLetters<H> {
    async fn list(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        let pb::ListRequest { key, limit, cursor } = request.into_inner();
        let limit = if limit == 0 { DEFAULT_LIMIT } else { i64::from(limit).min(MAX_LIMIT) };
        let key = Some(key.as_str()).filter(|key| !key.is_empty());
        let (found, next) =
            self.list(key, limit, position(&cursor)?).await.map_err(|error| fail(&error.into()))?;
        Ok(Response::new(pb::ListResponse {
            dead_letters: found.into_iter().map(dead_letter).collect(),
            next_cursor: cursor_text(next),
        }))
    }

    async fn show(
        &self,
        request: Request<pb::ShowRequest>,
    ) -> Result<Response<pb::ShowResponse>, Status> {
        let id = event_id(&request.into_inner().event_id)?;
        self.shown(id).await.map(Response::new).map_err(|error| fail(&error))
    }

    async fn redrive(
        &self,
        request: Request<pb::RedriveRequest>,
    ) -> Result<Response<pb::RedriveResponse>, Status> {
        let pb::RedriveRequest { selection, warrant } = request.into_inner();
        let by = warrant_of(warrant);
        let target = match selection.and_then(|selection| selection.target) {
            Some(Chosen::Key(key)) if !key.is_empty() => Target::Key(key),
            Some(Chosen::EventId(id)) => Target::Event(event_id(&id)?),
            Some(Chosen::AllFrom(cursor)) => {
                let done = self.redrive_all(KEYS_A_CALL, position(&cursor)?, &by).await;
                let (results, next) = done.map_err(|error| fail(&error))?;
                let results = results.into_iter().map(key_result).collect();
                let next_cursor = cursor_text(next);
                return Ok(Response::new(pb::RedriveResponse { results, next_cursor }));
            }
            Some(Chosen::Key(_)) | None => {
                return Err(unacceptable("selection", "must name a key, an event, or all"));
            }
        };
        let done = self.redrive(&target, &by).await.map_err(|error| fail(&error))?;
        let results = vec![key_result(done)];
        Ok(Response::new(pb::RedriveResponse { results, next_cursor: String::new() }))
    }

    async fn drop(
        &self,
        request: Request<pb::DropRequest>,
    ) -> Result<Response<pb::DropResponse>, Status> {
        let pb::DropRequest { selection, warrant } = request.into_inner();
        // Only an event: another one may have become the dead letter of its key meanwhile.
        let Some(Chosen::EventId(id)) = selection.and_then(|selection| selection.target) else {
            return Err(unacceptable("selection", "must name an event"));
        };
        let done = self.give_up(event_id(&id)?, &warrant_of(warrant)).await;
        let results = vec![key_result(done.map_err(|error| fail(&error))?)];
        Ok(Response::new(pb::DropResponse { results, next_cursor: String::new() }))
    }
}

impl<H: Handler> DeadLetters<H> {
    async fn shown(&self, id: Uuid) -> Result<pb::ShowResponse, OpsError> {
        let mut conn = database::acquire(&self.pool).await?;
        let row = rows::find(&mut conn, self.group, id).await?;
        let key = match &row {
            Some(row) => Some(row.key.clone()),
            None => view::past_key(&mut conn, self.group, id).await?,
        };
        let key = key.ok_or(OpsError::NotFound)?;
        let history = view::history(&mut conn, self.group, &key, SHOWN).await?;
        let history = history.into_iter().map(operator_action).collect();
        let Some(row) = row else {
            return Ok(pb::ShowResponse { history, ..pb::ShowResponse::default() });
        };
        let (first, waiting, count) = self.surroundings(&mut conn, &row).await?;
        let behind = first.filter(|first| *first != id).map(|first| first.to_string());
        let headers = row.headers.0.clone().into_iter().collect();
        let payload_json = event_json(row.event_type(), &row.payload).unwrap_or_default();
        let letter = dead_letter(Entry::of(row, count));
        Ok(pb::ShowResponse {
            dead_letter: Some(pb::DeadLetter { behind: behind.unwrap_or_default(), ..letter }),
            headers,
            payload_json,
            waiting: waiting.into_iter().map(waiting_event).collect(),
            history,
        })
    }

    /// The first event of an event's queue, what waits behind it, as much as is shown, and how many
    /// there are.
    async fn surroundings(
        &self,
        conn: &mut PgConnection,
        row: &Row,
    ) -> Result<(Option<Uuid>, Vec<Waiting>, i64), OpsError> {
        if row.is_stray() {
            return Ok((None, Vec::new(), 0));
        }
        let first = rows::first(conn, self.group, &row.key).await?;
        let waiting = view::behind(conn, self.group, &row.key, row.seq, SHOWN).await?;
        let count = rows::length(conn, self.group, &row.key, row.seq).await?;
        Ok((first, waiting, count))
    }
}

fn warrant_of(warrant: Option<pb::Warrant>) -> Warrant {
    let pb::Warrant { operator, reason } = warrant.unwrap_or_default();
    Warrant { operator, reason }
}

fn fail(error: &OpsError) -> Status {
    status(error)
}

fn unacceptable(field: &'static str, problem: &'static str) -> Status {
    fail(&OpsError::Unacceptable { field, problem })
}

fn event_id(text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| unacceptable("event_id", "must be a UUID"))
}

/// A cursor is the number of the last entry.
fn position(cursor: &str) -> Result<i64, Status> {
    if cursor.is_empty() {
        return Ok(0);
    }
    let problem = "must be the next_cursor of a previous page";
    cursor.parse().map_err(|_| unacceptable("cursor", problem))
}

fn cursor_text(next: Option<i64>) -> String {
    next.map_or_else(String::new, |seq| seq.to_string())
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    let nanos = i32::try_from(at.nanosecond()).unwrap_or_default();
    Timestamp { seconds: at.unix_timestamp(), nanos }
}

fn dead_letter(entry: Entry) -> pb::DeadLetter {
    pb::DeadLetter {
        event_id: entry.event_id.to_string(),
        key: key_text(&entry.key),
        r#type: entry.event_type,
        trace_id: rows::trace_id(&entry.traceparent),
        payload_bytes: i64::from(entry.payload_bytes),
        topic: entry.topic,
        partition: entry.partition,
        offset: entry.offset,
        reason: entry.reason.unwrap_or_default(),
        detail: entry.detail.unwrap_or_default(),
        since: Some(timestamp(entry.at)),
        waiting: entry.waiting,
        behind: String::new(),
    }
}

fn waiting_event(event: Waiting) -> pb::WaitingEvent {
    pb::WaitingEvent {
        event_id: event.event_id.to_string(),
        r#type: event.event_type,
        topic: event.topic,
        partition: event.partition,
        offset: event.offset,
        since: Some(timestamp(event.at)),
    }
}

fn operator_action(past: Past) -> pb::OperatorAction {
    pb::OperatorAction {
        at: Some(timestamp(past.at)),
        operator: past.operator,
        reason: past.reason,
        action: past.action,
        event_id: past.event_id.to_string(),
        r#type: past.event_type,
        outcome: past.outcome,
        detail: past.detail.unwrap_or_default(),
        trace_id: past.trace_id,
        request_trace_id: past.request_trace_id,
    }
}

fn key_result(done: KeyResult) -> pb::KeyResult {
    let told = |fault: Fault| (fault.event_id.to_string(), fault.reason, fault.detail);
    let (outcome, (event_id, reason, detail)) = match done.outcome {
        Outcome::Applied => (pb::Outcome::Applied, Default::default()),
        Outcome::Refused(fault) => (pb::Outcome::Refused, told(fault)),
        Outcome::Stopped(fault) => (pb::Outcome::Stopped, told(fault)),
        Outcome::Failed => (pb::Outcome::Failed, Default::default()),
        Outcome::Waits(first) => {
            (pb::Outcome::Waits, (first.to_string(), String::new(), String::new()))
        }
        Outcome::Gone => (pb::Outcome::Gone, Default::default()),
    };
    pb::KeyResult {
        key: done.key,
        outcome: outcome.into(),
        applied: i64::try_from(done.applied).unwrap_or(i64::MAX),
        waiting: done.waiting,
        event_id,
        reason,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_leads_to_where_it_was_given_out(seq in 1..=i64::MAX) {
            prop_assert_eq!(position(&cursor_text(Some(seq))).ok(), Some(seq));
            prop_assert_eq!(position(&cursor_text(None)).ok(), Some(0));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in any::<String>()) {
            let refused = position(&text).err().map(|status| status.code());
            prop_assert!(matches!(refused, None | Some(tonic::Code::InvalidArgument)));
            let _ = event_id(&text);
        }
    }
}
