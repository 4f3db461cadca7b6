//! Dead letters after a run: those that were planted are dropped as an operator would drop them,
//! any other is a violation.

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use uuid::Uuid;

use super::installation::Installation;

const WHY: &str = "planted by portolan faults";

#[derive(Debug, Deserialize)]
struct Letter {
    group: String,
    event_id: Uuid,
    reason: String,
}

/// Drops what was planted, and names what was not.
///
/// # Errors
/// The operators' command fails.
pub(super) async fn drop_planted(shop: &Installation) -> anyhow::Result<Vec<String>> {
    let planted = shop.planted();
    let listed = shop.command("dlq").args(["list", "--json"]).output().await?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let letters: Vec<Letter> =
        serde_json::from_slice(&listed.stdout).context("the list of dead letters")?;
    let mut others = Vec::new();
    for Letter { group, event_id, reason } in letters {
        if !planted.contains(&event_id) {
            others.push(format!(
                "dead letter {event_id} of {group} ({reason}), which nobody planted"
            ));
            continue;
        }
        let mut drop = shop.command("dlq");
        drop.args(["drop", "--group", &group, "--event", &event_id.to_string(), "--reason", WHY]);
        let dropped = drop.output().await?;
        ensure!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
    }
    Ok(others)
}
