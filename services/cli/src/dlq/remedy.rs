//! Redriving and dropping: every group and every key is tried, whatever happens to the others, and
//! what was done is told in any case.

use std::process::ExitCode;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Letter, Remedy, Which, groups, letters_of, show, target::Target};
use crate::{gateway::Refusal, out};

/// What to do about dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Redrive,
    Drop,
}

/// What became of a key.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct KeyResult {
    pub group: String,
    pub key: String,
    pub outcome: String,
    pub applied: i64,
    pub waiting: i64,
    pub fault: Option<Fault>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Fault {
    pub event_id: String,
    pub reason: String,
    pub detail: String,
}

#[derive(Debug, Deserialize)]
struct Handled {
    results: Vec<KeyResult>,
    next_cursor: Option<String>,
}

/// Does it, and says what was done whatever was in the way of the rest. Exit code 1 if something
/// remains.
///
/// # Errors
/// What was done cannot be put into words.
pub(super) async fn run(
    target: &Target,
    kind: Kind,
    order: &Remedy,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for group in groups(order.group.as_deref()) {
        let ended = match kind {
            Kind::Redrive => redrive(target, group, order, &mut done).await,
            Kind::Drop => drop(target, group, order, &mut done).await,
        };
        if let Err(error) = ended {
            errors.push(format!("{group}: {error:#}"));
        }
    }
    let complete = errors.is_empty();
    out::line(&if json {
        serde_json::to_string_pretty(&done)?
    } else {
        show::results(&done, complete)
    });
    for error in &errors {
        out::error(error);
    }
    let settled = |done: &KeyResult| matches!(done.outcome.as_str(), "APPLIED" | "GONE");
    let well = complete && done.iter().all(settled);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn redrive(
    target: &Target,
    group: &str,
    order: &Remedy,
    done: &mut Vec<KeyResult>,
) -> anyhow::Result<()> {
    let Which { key, event, all } = &order.which;
    let mut cursor = None::<String>;
    loop {
        let mut body = json!({"reason": order.reason});
        match (key, event) {
            (Some(key), _) => body["key"] = key.as_str().into(),
            (_, Some(event)) => body["event_id"] = event.as_str().into(),
            (None, None) => body["all"] = (*all).into(),
        }
        if let Some(cursor) = cursor {
            body["cursor"] = cursor.into();
        }
        let handled: Handled = target
            .post(&format!("/v1/admin/dlq/{group}/redrive"), &body)
            .await
            .map_err(|refusal| target.failed(&refusal))?;
        done.extend(handled.results);
        cursor = handled.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// Drops the event that was named, or those that are dead letters now: one that becomes a dead
/// letter meanwhile was not meant.
async fn drop(
    target: &Target,
    group: &str,
    order: &Remedy,
    done: &mut Vec<KeyResult>,
) -> anyhow::Result<()> {
    let Which { key, event, .. } = &order.which;
    let failed = |refusal: Refusal| target.failed(&refusal);
    if let Some(event) = event {
        done.extend(drop_one(target, group, event, &order.reason).await.map_err(failed)?);
        return Ok(());
    }
    let letters = letters_of(target, group, key.as_deref()).await?;
    if let Some(key) = key {
        let event = only(key, &letters)?;
        done.extend(drop_one(target, group, event, &order.reason).await.map_err(failed)?);
        return Ok(());
    }
    for letter in letters {
        match drop_one(target, group, &letter.event_id, &order.reason).await {
            Ok(results) => done.extend(results),
            Err(refusal) => done.push(not_dropped(letter, &refusal)),
        }
    }
    Ok(())
}

/// What became of a key whose dead letter could not be dropped.
fn not_dropped(letter: Letter, refusal: &Refusal) -> KeyResult {
    let (outcome, waiting) = match refusal.kind() {
        "404 not_found" => ("GONE", 0),
        "409 behind_another_dead_letter" | "409 not_dead" => ("WAITS", letter.waiting),
        _ => ("FAILED", letter.waiting),
    };
    let (reason, detail) = refusal.why().split_once(": ").unwrap_or((refusal.why(), ""));
    let (reason, detail) = (reason.to_owned(), detail.to_owned());
    let fault = Fault { event_id: letter.event_id, reason, detail };
    let fault = Some(fault).filter(|_| outcome != "GONE");
    let (group, key, outcome) = (letter.group, letter.key, outcome.to_owned());
    KeyResult { group, key, outcome, applied: 0, waiting, fault }
}

/// The one dead letter of a key.
fn only<'a>(key: &str, letters: &'a [Letter]) -> anyhow::Result<&'a str> {
    match letters {
        [] => bail!("there is no dead letter of {key}"),
        [letter] => Ok(&letter.event_id),
        several => {
            let ids: Vec<&str> = several.iter().map(|letter| letter.event_id.as_str()).collect();
            bail!("{key} has several dead letters: name one with --event: {}", ids.join(", "))
        }
    }
}

async fn drop_one(
    target: &Target,
    group: &str,
    event: &str,
    reason: &str,
) -> Result<Vec<KeyResult>, Refusal> {
    let body = json!({"event_id": event, "reason": reason});
    let handled: Handled = target.post(&format!("/v1/admin/dlq/{group}/drop"), &body).await?;
    Ok(handled.results)
}
