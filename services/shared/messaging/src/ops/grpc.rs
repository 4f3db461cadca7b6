//! `portolan.ops.v1.DeadLetterService`, the same for every group.

use portolan_proto::{event_json, ops::v1 as pb};
use portolan_runtime::grpc::status;
use prost_types::Timestamp;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    DeadLetters, KeyResult, OpsError, Outcome, Target, Warrant,
    action::Action,
    key_text,
    rows::{self, Entry, Past, Row},
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
const SHOWN: usize = 100;

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
        let (results, next_cursor) = self.deal(Action::Redrive, selection, warrant).await?;
        Ok(Response::new(pb::RedriveResponse { results, next_cursor }))
    }

    async fn drop(
        &self,
        request: Request<pb::DropRequest>,
    ) -> Result<Response<pb::DropResponse>, Status> {
        let pb::DropRequest { selection, warrant } = request.into_inner();
        let (results, next_cursor) = self.deal(Action::Drop, selection, warrant).await?;
        Ok(Response::new(pb::DropResponse { results, next_cursor }))
    }
}

impl<H: Handler> DeadLetters<H> {
    async fn deal(
        &self,
        action: Action,
        selection: Option<pb::Selection>,
        warrant: Option<pb::Warrant>,
    ) -> Result<(Vec<pb::KeyResult>, String), Status> {
        let pb::Warrant { operator, reason } = warrant.unwrap_or_default();
        let by = Warrant { operator, reason };
        let target = match selection.and_then(|selection| selection.target) {
            Some(pb::selection::Target::Key(key)) if !key.is_empty() => Target::Key(key),
            Some(pb::selection::Target::EventId(id)) => Target::Event(event_id(&id)?),
            Some(pb::selection::Target::AllFrom(cursor)) => {
                let from = position(&cursor)?;
                let done = self.act_on_all(action, KEYS_A_CALL, from, &by).await;
                let (results, next) = done.map_err(|error| fail(&error))?;
                return Ok((results.into_iter().map(key_result).collect(), cursor_text(next)));
            }
            Some(pb::selection::Target::Key(_)) | None => {
                return Err(unacceptable("selection", "must name a key, an event, or all"));
            }
        };
        let done = match action {
            Action::Redrive => self.redrive(&target, &by).await,
            Action::Drop => self.give_up(&target, &by).await,
        };
        Ok((vec![key_result(done.map_err(|error| fail(&error))?)], String::new()))
    }

    async fn shown(&self, id: Uuid) -> Result<pb::ShowResponse, OpsError> {
        let mut conn = self.pool.acquire().await?;
        let row = rows::find(&mut conn, self.group, id).await?;
        let key = match &row {
            Some(row) => Some(row.key.clone()),
            None => rows::past_key(&mut conn, self.group, id).await?,
        };
        let key = key.ok_or(OpsError::NotFound)?;
        let most = i64::try_from(SHOWN).unwrap_or(i64::MAX);
        let history = rows::history(&mut conn, self.group, &key, most).await?;
        let history = history.into_iter().map(operator_action).collect();
        let Some(row) = row else {
            return Ok(pb::ShowResponse { history, ..pb::ShowResponse::default() });
        };
        let (waiting, count) = self.behind(&mut conn, &row).await?;
        Ok(pb::ShowResponse {
            headers: row.headers.0.clone().into_iter().collect(),
            payload_json: event_json(row.event_type(), &row.payload).unwrap_or_default(),
            waiting: waiting.iter().map(waiting_event).collect(),
            dead_letter: Some(dead_letter(Entry { row, waiting: count })),
            history,
        })
    }
}

impl<H: Handler> DeadLetters<H> {
    /// What waits behind an event, as much as is shown, and how many there are.
    async fn behind(
        &self,
        conn: &mut PgConnection,
        row: &Row,
    ) -> Result<(Vec<Row>, i64), OpsError> {
        if row.is_stray() {
            return Ok((Vec::new(), 0));
        }
        let mut queue = rows::queue(conn, self.group, &row.key, SHOWN + 1).await?;
        queue.retain(|other| other.seq > row.seq);
        queue.truncate(SHOWN);
        let length = rows::length(conn, self.group, &row.key).await?;
        Ok((queue, length - 1))
    }
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
    let Entry { row, waiting } = entry;
    pb::DeadLetter {
        event_id: row.event_id.to_string(),
        key: key_text(&row),
        r#type: row.event_type().to_owned(),
        trace_id: row.trace_id(),
        payload_bytes: i64::try_from(row.payload.len()).unwrap_or(i64::MAX),
        topic: row.topic,
        partition: row.partition,
        offset: row.offset,
        reason: row.reason.unwrap_or_default(),
        detail: row.detail.unwrap_or_default(),
        since: Some(timestamp(row.at)),
        waiting,
    }
}

fn waiting_event(row: &Row) -> pb::WaitingEvent {
    pb::WaitingEvent {
        event_id: row.event_id.to_string(),
        r#type: row.event_type().to_owned(),
        topic: row.topic.clone(),
        partition: row.partition,
        offset: row.offset,
        since: Some(timestamp(row.at)),
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
    let (outcome, fault) = match done.outcome {
        Outcome::Applied => (pb::Outcome::Applied, None),
        Outcome::Refused(fault) => (pb::Outcome::Refused, Some(fault)),
        Outcome::Stopped(fault) => (pb::Outcome::Stopped, Some(fault)),
    };
    let (event_id, reason, detail) =
        fault.map_or_else(Default::default, |f| (f.event_id.to_string(), f.reason, f.detail));
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
