//! Writes placements in batches: while one transaction commits, requests queue, and the next takes
//! them all. Nobody waits for a batch to fill.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use portolan_kernel::{IdGen, OrderId};
use portolan_lock::Guard;
use portolan_messaging::{Outgoing, Waker, outbox};
use portolan_proto::{events::v1 as events, order::v1 as proto};
use portolan_runtime::{Context, database, failpoint, telemetry::TraceContext};
use prost::Message as _;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    app::{
        Error,
        line::{Line, Waiting},
    },
    domain::{Order, PricedLine},
    store::{
        OrderRow,
        guards::{self, Opening},
        orders::{self, Transition},
        placement::{self, Claim},
        priced_line, timestamp,
    },
};

const QUEUE: usize = 1_024;
const PATIENCE: Duration = Duration::from_secs(10);

/// A priced order whose customer's lock is held, if there is a lock.
pub(crate) struct Entry {
    pub(crate) user_id: String,
    pub(crate) key: String,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) lines: Vec<PricedLine>,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) payment_token: String,
    pub(crate) trace: TraceContext,
    /// `None` when no lock could be reached: the guard's row lock serialises alone.
    pub(crate) guard: Option<Arc<Guard>>,
}

impl fmt::Debug for Entry {
    /// Without the card.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, key) = (&self.user_id, &self.key);
        f.debug_struct("Entry").field("user_id", user).field("key", key).finish_non_exhaustive()
    }
}

/// What became of an entry.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Placed by this entry.
    Placed(proto::Order),
    /// The key was taken; the stored answer decides.
    KeyTaken,
    /// The fence is ahead of the entry's token.
    Fenced(i64),
    /// Refused or failed.
    Failed(Error),
}

impl Verdict {
    const fn says_the_database_is_away(&self) -> bool {
        matches!(self, Self::Failed(Error::Unknown(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)))
    }
}

/// The queue in front of the placement transaction.
#[derive(Clone, Debug)]
pub struct Batcher(mpsc::Sender<Waiting>);

struct Worker {
    pool: PgPool,
    ids: Arc<dyn IdGen>,
    waker: Waker,
    deadline: Duration,
    open_order_limit: i32,
}

impl Batcher {
    /// Starts the batcher's task.
    pub fn spawn(
        ctx: &Context,
        pool: PgPool,
        waker: Waker,
        deadline: Duration,
        open_order_limit: i32,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut line = Line::new(queue);
        let worker = Worker { pool, ids: Arc::clone(&ctx.ids), waker, deadline, open_order_limit };
        let stop = ctx.tasks.hard();
        ctx.tasks.spawn("placement batcher", async move {
            while let Some(Some(batch)) = stop.run_until_cancelled(line.next_batch()).await {
                worker.place(batch).await;
            }
            Ok(())
        });
        Self(sender)
    }

    /// Places one order; returns when its transaction has ended.
    pub(crate) async fn place(&self, entry: Entry) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        if self.0.send((entry, reply)).await.is_err() {
            return Verdict::Failed(Error::ShuttingDown);
        }
        verdict.await.unwrap_or(Verdict::Failed(Error::ShuttingDown))
    }
}

impl Worker {
    async fn place(&self, batch: Vec<Waiting>) {
        let mut live = Vec::with_capacity(batch.len());
        // Who has gone away asks again with the same key, or does not want it any more.
        for (entry, reply) in batch.into_iter().filter(|(_, reply)| !reply.is_closed()) {
            if entry.guard.as_ref().is_none_or(|guard| guard.is_valid()) {
                live.push((entry, reply));
            } else {
                answer(reply, Verdict::Failed(Error::Overtaken));
            }
        }
        live.sort_by(|(a, _), (b, _)| (&a.user_id, &a.key).cmp(&(&b.user_id, &b.key)));
        let (entries, replies): (Vec<Entry>, Vec<_>) = live.into_iter().unzip();
        let verdicts = self.settle(&entries).await;
        for (reply, verdict) in replies.into_iter().zip(verdicts) {
            answer(reply, verdict);
        }
    }

    /// One transaction for all; if that fails, one for each, so that no entry suffers for another.
    async fn settle(&self, entries: &[Entry]) -> Vec<Verdict> {
        if entries.is_empty() {
            return Vec::new();
        }
        match self.transact(entries).await {
            Ok(verdicts) => verdicts,
            Err(error) if entries.len() == 1 => vec![self.after_failure(&entries[0], error).await],
            Err(error) => {
                tracing::warn!(%error, entries = entries.len(), "batch failed; placing one by one");
                self.one_by_one(entries).await
            }
        }
    }

    /// Until the database is found to be away: nobody is served then by trying them all.
    async fn one_by_one(&self, entries: &[Entry]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(entries.len());
        for entry in entries {
            let verdict = match self.transact(std::slice::from_ref(entry)).await {
                Ok(mut one) => one.pop().unwrap_or(Verdict::KeyTaken),
                Err(error) => self.after_failure(entry, error).await,
            };
            let away = verdict.says_the_database_is_away();
            verdicts.push(verdict);
            if away {
                break;
            }
        }
        verdicts.resize_with(entries.len(), || {
            Verdict::Failed(Error::Unknown(sqlx::Error::PoolTimedOut))
        });
        verdicts
    }

    /// A failed commit may have happened all the same: the key tells.
    async fn after_failure(&self, entry: &Entry, error: sqlx::Error) -> Verdict {
        let found = async {
            let mut conn = database::acquire(&self.pool).await?;
            placement::find_answer(&mut conn, &entry.user_id, &entry.key).await
        };
        match database::at_most(PATIENCE, found).await {
            Ok(Some(_)) => Verdict::KeyTaken,
            Ok(None) | Err(_) if database::is_transient(&error) => {
                tracing::warn!(%error, "whether an order was placed is not known");
                Verdict::Failed(Error::Unknown(error))
            }
            // The database has refused it: nothing was committed.
            Ok(None) | Err(_) => Verdict::Failed(Error::Database(error)),
        }
    }

    async fn transact(&self, entries: &[Entry]) -> Result<Vec<Verdict>, sqlx::Error> {
        database::at_most(PATIENCE, self.write(entries)).await
    }

    async fn write(&self, entries: &[Entry]) -> Result<Vec<Verdict>, sqlx::Error> {
        let mut tx = database::begin(&self.pool).await?;
        let at = orders::now(&mut tx).await?;
        let rows: Vec<OrderRow> = entries.iter().map(|entry| self.row(entry, at)).collect();
        let claimed = self.claim(&mut tx, entries, &rows, at).await?;
        let opened = self.open(&mut tx, entries, &rows, &claimed, at).await?;
        let mut verdicts = Vec::with_capacity(entries.len());
        let mut placed = Vec::new();
        let mut refused = Vec::new();
        for (entry, row) in entries.iter().zip(&rows) {
            verdicts.push(if !claimed.contains(&row.id.0) {
                Verdict::KeyTaken
            } else if opened.contains(&entry.user_id) {
                placed.push((entry, row));
                Verdict::Placed(row.to_proto())
            } else {
                refused.push((entry.user_id.clone(), entry.key.clone()));
                self.why_refused(&mut tx, entry).await?
            });
        }
        placement::unclaim(&mut tx, &refused).await?;
        self.insert(&mut tx, &placed, at).await?;
        failpoint!("place:before-commit");
        tx.commit().await?;
        failpoint!("place:after-commit");
        self.waker.wake();
        metrics::counter!("portolan_orders_placed_total").increment(placed.len() as u64);
        Ok(verdicts)
    }

    async fn claim(
        &self,
        tx: &mut PgConnection,
        entries: &[Entry],
        rows: &[OrderRow],
        at: OffsetDateTime,
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        let claims: Vec<Claim> = entries
            .iter()
            .zip(rows)
            .map(|(entry, row)| Claim {
                user_id: entry.user_id.clone(),
                key: entry.key.clone(),
                fingerprint: entry.fingerprint.clone(),
                order_id: row.id.0,
                response: row.to_proto().encode_to_vec(),
            })
            .collect();
        Ok(placement::claim(tx, &claims, at).await?.into_iter().collect())
    }

    async fn open(
        &self,
        tx: &mut PgConnection,
        entries: &[Entry],
        rows: &[OrderRow],
        claimed: &HashSet<Uuid>,
        at: OffsetDateTime,
    ) -> Result<HashSet<String>, sqlx::Error> {
        let openings: Vec<Opening> = entries
            .iter()
            .zip(rows)
            .filter(|(_, row)| claimed.contains(&row.id.0))
            .map(|(entry, row)| Opening {
                user_id: entry.user_id.clone(),
                token: entry.guard.as_ref().map(|guard| guard.token()),
                order_id: row.id.0,
            })
            .collect();
        let opened = guards::open_orders(tx, &openings, self.open_order_limit, at).await?;
        Ok(opened.into_iter().collect())
    }

    async fn why_refused(
        &self,
        tx: &mut PgConnection,
        entry: &Entry,
    ) -> Result<Verdict, sqlx::Error> {
        let fence = guards::fence(tx, &entry.user_id).await?;
        Ok(match &entry.guard {
            Some(guard) if guard.token() < fence => Verdict::Fenced(fence),
            Some(_) | None => Verdict::Failed(Error::OpenOrderLimit(self.open_order_limit)),
        })
    }

    async fn insert(
        &self,
        tx: &mut PgConnection,
        placed: &[(&Entry, &OrderRow)],
        at: OffsetDateTime,
    ) -> Result<(), sqlx::Error> {
        if placed.is_empty() {
            return Ok(());
        }
        let rows: Vec<OrderRow> = placed.iter().map(|(_, row)| (*row).clone()).collect();
        let keys: Vec<String> = placed.iter().map(|(entry, _)| entry.key.clone()).collect();
        let fingerprints: Vec<Vec<u8>> =
            placed.iter().map(|(entry, _)| entry.fingerprint.clone()).collect();
        placement::insert_orders(tx, &rows, &keys, &fingerprints).await?;
        let history: Vec<Transition> = rows
            .iter()
            .map(|row| Transition { id: row.id, order: row.order, cause: "placed" })
            .collect();
        orders::append_history(tx, &history, at).await?;
        let outgoing: Vec<Outgoing> =
            placed.iter().map(|(entry, row)| self.announce(entry, row)).collect();
        outbox::append(tx, &outgoing).await
    }

    fn row(&self, entry: &Entry, at: OffsetDateTime) -> OrderRow {
        OrderRow {
            id: OrderId(self.ids.next()),
            user_id: entry.user_id.clone(),
            order: Order::placed(),
            amount_minor: entry.amount_minor,
            currency: entry.currency.clone(),
            lines: entry.lines.clone(),
            deadline: at + self.deadline,
            traceparent: entry.trace.as_str().to_owned(),
            created_at: at,
            updated_at: at,
        }
    }

    fn announce(&self, entry: &Entry, row: &OrderRow) -> Outgoing {
        let event = events::OrderPlaced {
            order_id: row.id.to_string(),
            user_id: row.user_id.clone(),
            lines: row.lines.iter().map(priced_line).collect(),
            amount: Some(row.amount()),
            payment_token: entry.payment_token.clone(),
            placed_at: Some(timestamp(row.created_at)),
            deadline: Some(timestamp(row.deadline)),
        };
        Outgoing::new(
            self.ids.next(),
            row.id,
            row.order.version,
            row.created_at,
            &entry.trace,
            &event,
        )
    }
}

/// Nobody listens any more when the caller's deadline has passed; the key will tell it later.
pub(super) fn answer(reply: oneshot::Sender<Verdict>, verdict: Verdict) {
    if reply.send(verdict).is_err() {
        tracing::debug!("the caller is gone");
    }
}
