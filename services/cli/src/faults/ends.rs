//! How the orders ended, as the order database has it.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{Connection as _, FromRow};
use time::OffsetDateTime;

use crate::audit::Databases;

#[derive(Debug, FromRow)]
struct Row {
    state: String,
    reason: Option<String>,
    updated_at: OffsetDateTime,
}

/// How the orders ended, and when they were completed.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// By state and reason.
    pub(super) counts: BTreeMap<String, u64>,
    /// From `start` on.
    pub(super) completed: Vec<Duration>,
}

impl Ends {
    /// # Errors
    /// The order database cannot be read.
    pub(super) async fn read(databases: &Databases, start: OffsetDateTime) -> anyhow::Result<Self> {
        let mut connection = databases.connect(&databases.order).await?;
        let rows: Vec<Row> = sqlx::query_as("SELECT state, reason, updated_at FROM orders")
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        let mut ends = Self::default();
        for Row { state, reason, updated_at } in rows {
            if state == "COMPLETED" {
                ends.completed.push(Duration::try_from(updated_at - start).unwrap_or_default());
            }
            let how = reason.map_or(state.clone(), |reason| format!("{state} {reason}"));
            *ends.counts.entry(how).or_default() += 1;
        }
        Ok(ends)
    }
}
