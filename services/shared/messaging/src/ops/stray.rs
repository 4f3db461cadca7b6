//! Records without a sound envelope: each is dealt with alone.

use portolan_runtime::database;
use uuid::Uuid;

use super::{
    DeadLetters, KeyResult, OpsError, Outcome, Warrant,
    action::{self, Action, Fate},
    key_text,
    rows::{self, Row},
    step::fault,
};
use crate::{
    dead_letter::{MALFORMED, Verdict},
    envelope::{Malformed, event_day},
    handler::Handler,
    inbox,
    partitions::oldest_day,
};

impl<H: Handler> DeadLetters<H> {
    pub(super) async fn deal_with_stray(
        &self,
        action: Action,
        event_id: Uuid,
        by: &Warrant,
    ) -> Result<KeyResult, OpsError> {
        match action {
            Action::Redrive => database::in_time(self.redrive_stray(event_id, by)).await,
            Action::Drop => database::in_time(self.drop_stray(event_id, by)).await,
        }
    }

    async fn drop_stray(&self, event_id: Uuid, by: &Warrant) -> Result<KeyResult, OpsError> {
        let mut tx = database::begin(&self.pool).await?;
        // Two operators at once: the second finds no row to take out, and its trail has none.
        let found = rows::find(&mut tx, self.group, event_id).await?;
        let row = found.ok_or(OpsError::NotFound)?;
        inbox::lock(&mut tx, self.group, std::iter::once(row.key.as_slice())).await?;
        let row = rows::find(&mut tx, self.group, event_id).await?.ok_or(OpsError::NotFound)?;
        rows::take_out(&mut tx, self.group, &row, "dropped").await?;
        action::record(&mut tx, self.group, Action::Drop, by, &row, Fate::Dropped).await?;
        tx.commit().await?;
        action::count(self.group, Action::Drop, Fate::Dropped.name(), 1);
        Ok(done(&row, Outcome::Applied, 0))
    }

    /// It may be readable by now: its time has come, or this program knows more than the one that
    /// set it aside.
    async fn redrive_stray(&self, event_id: Uuid, by: &Warrant) -> Result<KeyResult, OpsError> {
        let mut tx = database::begin(&self.pool).await?;
        let row = rows::find(&mut tx, self.group, event_id).await?.ok_or(OpsError::NotFound)?;
        // The consumer's order of locks: inbox row, key.
        let fresh = match row.raw().decode(self.clock.now()) {
            Ok(record) if event_day(record.event_id) >= oldest_day(self.clock.now()) => {
                rows::remember(&mut tx, self.group, record.event_id).await?
            }
            unfit => {
                // What came of an older one has been forgotten: it may have been applied.
                let stale = Verdict::new("stale", "older than anything the inbox remembers");
                let verdict =
                    unfit.map_or_else(|Malformed(why)| Verdict::new(MALFORMED, why), |_| stale);
                return self.refuse(tx, &row, &verdict, by).await;
            }
        };
        inbox::lock(&mut tx, self.group, std::iter::once(row.key.as_slice())).await?;
        let row = rows::find(&mut tx, self.group, event_id).await?.ok_or(OpsError::NotFound)?;
        if rows::is_marked(&mut tx, self.group, &row.key).await? {
            let first = rows::first(&mut tx, self.group, &row.key).await?;
            return Err(OpsError::NotFirst { first: first.unwrap_or(event_id) });
        }
        // It has come again since, and was dealt with then: the queue of its key is empty.
        let attempt = if fresh { Some(self.attempt(&mut tx, &row).await?) } else { None };
        let applied = match attempt {
            Some(Err(verdict)) => {
                tx.rollback().await?;
                let tx = database::begin(&self.pool).await?;
                return self.refuse(tx, &row, &verdict, by).await;
            }
            Some(Ok(applied)) => vec![applied],
            None => Vec::new(),
        };
        rows::take_out(&mut tx, self.group, &row, "done").await?;
        action::record(&mut tx, self.group, Action::Redrive, by, &row, Fate::Applied).await?;
        tx.commit().await?;
        action::count(self.group, Action::Redrive, Fate::Applied.name(), 1);
        let count = applied.len();
        self.tell(applied);
        Ok(done(&row, Outcome::Applied, count))
    }

    async fn refuse(
        &self,
        mut tx: sqlx::PgTransaction<'_>,
        row: &Row,
        verdict: &Verdict,
        by: &Warrant,
    ) -> Result<KeyResult, OpsError> {
        let fate = Fate::Refused(verdict);
        action::record(&mut tx, self.group, Action::Redrive, by, row, fate).await?;
        tx.commit().await?;
        action::count(self.group, Action::Redrive, fate.name(), 1);
        Ok(done(row, Outcome::Refused(fault(row, verdict)), 0))
    }
}

fn done(row: &Row, outcome: Outcome, applied: usize) -> KeyResult {
    KeyResult { key: key_text(&row.key), outcome, applied, waiting: 0 }
}
