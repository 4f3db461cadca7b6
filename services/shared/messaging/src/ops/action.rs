use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;

use super::{OpsError, rows::Row, view::MAX_TYPE};
use crate::{dead_letter::Verdict, handler::Group};

const MAX_NAME: usize = 200;
const MAX_REASON: usize = 500;

/// Who acts, and why.
#[derive(Clone, Debug)]
pub struct Warrant {
    /// The operator's name.
    pub operator: String,
    /// The reason, for those who read the trail later.
    pub reason: String,
}

impl Warrant {
    pub(super) fn check(&self) -> Result<(), OpsError> {
        for (field, text, most) in
            [("operator", &self.operator, MAX_NAME), ("reason", &self.reason, MAX_REASON)]
        {
            let plain = !text.chars().any(char::is_control) && !text.trim().is_empty();
            if !plain || text.chars().count() > most {
                return Err(OpsError::Unacceptable {
                    field,
                    problem: "is required: a line of text, at most 500 characters",
                });
            }
        }
        Ok(())
    }
}

/// What an operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Redrive,
    Drop,
}

impl Action {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Drop => "drop",
        }
    }
}

/// What became of one event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate<'a> {
    Applied,
    Refused(&'a Verdict),
    Dead(&'a Verdict),
    Dropped,
}

impl Fate<'_> {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused(_) => "refused",
            Self::Dead(_) => "dead",
            Self::Dropped => "dropped",
        }
    }

    /// What the handler said now; of a dropped event, why it was dead.
    fn detail(self, row: &Row) -> Option<String> {
        match self {
            Self::Applied => None,
            Self::Refused(verdict) | Self::Dead(verdict) => {
                Some(format!("{}: {}", verdict.reason(), verdict.detail()))
            }
            Self::Dropped => {
                let word = row.reason.as_deref().unwrap_or_default();
                Some(format!("{word}: {}", row.detail.as_deref().unwrap_or_default()))
            }
        }
    }
}

/// Writes down what was done about one event.
pub(super) async fn record(
    conn: &mut PgConnection,
    group: Group,
    action: Action,
    by: &Warrant,
    row: &Row,
    fate: Fate<'_>,
) -> Result<(), sqlx::Error> {
    let here = TraceContext::current().trace_id().unwrap_or_default();
    sqlx::query!(
        "INSERT INTO dead_letter_action (operator, reason, action, grp, key, event_id, type, topic,
             kafka_partition, kafka_offset, was_dead, outcome, detail, trace_id, request_trace_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        by.operator,
        by.reason,
        action.name(),
        group.id,
        row.key,
        row.event_id,
        row.event_type().chars().take(MAX_TYPE).collect::<String>(),
        row.topic,
        row.partition,
        row.offset,
        row.reason.is_some(),
        fate.name(),
        fate.detail(row),
        row.trace_id(),
        here,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts what became of events, after the commit.
pub(super) fn count(group: Group, action: Action, outcome: &'static str, events: usize) {
    if events > 0 {
        metrics::counter!(
            "portolan_dead_letter_actions_total",
            "group" => group.name, "action" => action.name(), "outcome" => outcome
        )
        .increment(events as u64);
    }
}
