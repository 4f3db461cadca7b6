//! The relay publishes the outbox: locks shards, sends their rows in order, deletes what was
//! acknowledged.
//!
//! It reads by lock and deletes, never by "greater than the last sequence": a row that becomes
//! visible late is simply found by the next pass. Of one key, never two rows are unacknowledged at
//! a time, so no failure can let one overtake another. Waiting for the acknowledgements inside the
//! transaction is the one deliberate exception to "no external call inside a transaction"; it is
//! bounded by the producer's message timeout.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use portolan_runtime::{Context, database, failpoint, telemetry::TraceContext};
use rdkafka::{
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig},
};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tracing::Instrument as _;

use crate::{envelope::HeaderMap, kafka::Kafka};

const BATCH: i64 = 500;
/// How long a row written by another process may wait for this relay to look.
const TICK: Duration = Duration::from_millis(75);
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// A relay that cannot reach the broker holds the shards while it tries; the longer it has failed,
/// the longer it leaves them to the other replicas.
const LAST_RETRY: Duration = Duration::from_secs(8);

/// Tells the relay that a transaction of this process committed events.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Call after the commit.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Publishes one database's outbox. Any number of replicas may run it.
#[expect(missing_debug_implementations, reason = "librdkafka's handle has none")]
pub struct Relay {
    pool: PgPool,
    kafka: Kafka,
    producer: FutureProducer,
    waker: Waker,
    retry: Duration,
}

struct StoredRow {
    shard: i16,
    seq: i64,
    topic: String,
    key: Vec<u8>,
    headers: HeaderMap,
    payload: Vec<u8>,
}

struct Pass {
    published: usize,
    failed: Option<KafkaError>,
}

impl Relay {
    /// A relay that is not yet running.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(pool: PgPool, kafka: &Kafka) -> anyhow::Result<Self> {
        let mut kafka = kafka.clone();
        let producer = kafka.producer().create()?;
        Ok(Self { pool, kafka, producer, waker: Waker::default(), retry: FIRST_RETRY })
    }

    /// What to call after a commit.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Runs until shutdown.
    pub fn spawn(mut self, ctx: &Context) {
        let stop = ctx.tasks.soft();
        ctx.tasks.spawn("outbox relay", async move {
            while !stop.is_cancelled() {
                self.renew();
                let wait = self.turn().await;
                let Some(wait) = wait else { continue };
                let waker = self.waker.0.clone();
                let pause = async {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = waker.notified(), if wait == TICK => {}
                    }
                };
                stop.run_until_cancelled(pause).await;
            }
            Ok(())
        });
    }

    /// Between two passes nothing of ours is on its way to the broker: what was sent is
    /// acknowledged, or was purged. So a new producer can neither lose nor reorder anything.
    fn renew(&mut self) {
        self.kafka.renew("producer", &mut self.producer, |kafka| kafka.producer().create());
    }

    /// One pass; how long to wait before the next, `None` for not at all.
    async fn turn(&mut self) -> Option<Duration> {
        match self.pass().await {
            Ok(Pass { published, failed: Some(error) }) => {
                tracing::warn!(%error, published, "outbox not all published; it will be tried again");
                self.start_over();
                Some(self.next_retry(published == 0))
            }
            Ok(Pass { published, failed: None }) => {
                metrics::counter!("portolan_outbox_published_total").increment(published as u64);
                self.retry = FIRST_RETRY;
                (published == 0).then_some(TICK)
            }
            Err(error) => {
                tracing::warn!(%error, "outbox not readable; it will be tried again");
                Some(FIRST_RETRY)
            }
        }
    }

    fn next_retry(&mut self, nothing_went_out: bool) -> Duration {
        let wait = self.retry;
        self.retry = if nothing_went_out { (wait * 2).min(LAST_RETRY) } else { FIRST_RETRY };
        wait
    }

    async fn pass(&self) -> Result<Pass, sqlx::Error> {
        let taken = database::in_time(async {
            let mut tx = database::begin(&self.pool).await?;
            let rows = take(&mut tx).await?;
            Ok::<_, sqlx::Error>((tx, rows))
        });
        let (mut tx, rows) = taken.await?;
        if rows.is_empty() {
            return Ok(Pass { published: 0, failed: None });
        }
        failpoint!("relay:before-produce");
        let (acknowledged, failed) = self.publish(&rows).await;
        failpoint!("relay:after-acknowledgement");
        // Not all of it in one limit: what is on its way to the broker is waited for.
        let forgotten = database::in_time(async {
            delete(&mut tx, &acknowledged).await?;
            failpoint!("relay:before-commit");
            tx.commit().await
        });
        forgotten.await?;
        failpoint!("relay:after-commit");
        Ok(Pass { published: acknowledged.len(), failed })
    }

    /// Sends the rows in waves, each key's next row after the acknowledgement of the one before.
    /// From a key's first failure on, its rows stay.
    async fn publish<'a>(&self, rows: &'a [StoredRow]) -> (Vec<&'a StoredRow>, Option<KafkaError>) {
        let (mut acknowledged, mut failed) = (Vec::with_capacity(rows.len()), None);
        let mut stuck: HashSet<&[u8]> = HashSet::new();
        for mut wave in waves(rows) {
            wave.retain(|row| !stuck.contains(row.key.as_slice()));
            let results = join_all(wave.iter().map(|row| self.send(row))).await;
            for (row, result) in wave.into_iter().zip(results) {
                match result {
                    Ok(()) => acknowledged.push(row),
                    Err(error) => {
                        stuck.insert(&row.key);
                        failed = Some(error);
                    }
                }
            }
            if acknowledged.is_empty() {
                break;
            }
        }
        (acknowledged, failed)
    }

    async fn send(&self, row: &StoredRow) -> Result<(), KafkaError> {
        let topic = self.kafka.config().topic(&row.topic);
        let mut headers = OwnedHeaders::new_with_capacity(row.headers.len());
        for (key, value) in &row.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = FutureRecord::to(&topic).key(&row.key).payload(&row.payload).headers(headers);
        let sent = self.producer.send_result(record).map_err(|(error, _)| error)?;
        match sent.instrument(producer_span(row)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(error),
            Err(_) => Err(KafkaError::Canceled),
        }
    }

    /// After a failure nothing of the old producer may still be on its way when rows are sent
    /// again.
    fn start_over(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        match self.kafka.producer().create() {
            Ok(producer) => self.producer = producer,
            Err(error) => tracing::error!(%error, "producer not rebuilt; the old one goes on"),
        }
    }
}

fn producer_span(row: &StoredRow) -> tracing::Span {
    let span = tracing::info_span!(
        "send",
        otel.kind = "producer",
        otel.name = %format_args!("send {}", row.topic),
        messaging.system = "kafka",
        messaging.operation.type = "send",
        messaging.destination.name = %row.topic,
    );
    if let Some(trace) = row.headers.get("traceparent") {
        TraceContext::parse(trace).set_parent(&span);
    }
    span
}

/// Locks the free shards that have rows, and reads those in order. A locked shard belongs to
/// another relay.
async fn take(tx: &mut PgConnection) -> Result<Vec<StoredRow>, sqlx::Error> {
    let shards = sqlx::query_scalar!(
        "SELECT shard FROM outbox_shard AS s
         WHERE EXISTS (SELECT FROM outbox AS o WHERE o.shard = s.shard)
         ORDER BY shard
         FOR UPDATE SKIP LOCKED",
    )
    .fetch_all(&mut *tx)
    .await?;
    if shards.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        "SELECT o.shard, o.seq, o.topic, o.key, o.headers, o.payload
         FROM unnest($1::smallint[]) AS s (shard)
             CROSS JOIN LATERAL (
                 SELECT * FROM outbox WHERE outbox.shard = s.shard ORDER BY seq LIMIT $2
             ) AS o
         ORDER BY o.seq",
        &shards,
        BATCH / i64::try_from(shards.len()).unwrap_or(1) + 1,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredRow {
            shard: row.shard,
            seq: row.seq,
            topic: row.topic,
            key: row.key,
            headers: serde_json::from_value(row.headers).unwrap_or_default(),
            payload: row.payload,
        })
        .collect())
}

async fn delete(tx: &mut PgConnection, rows: &[&StoredRow]) -> Result<(), sqlx::Error> {
    let shards: Vec<i16> = rows.iter().map(|row| row.shard).collect();
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    sqlx::query!(
        "DELETE FROM outbox USING unnest($1::smallint[], $2::bigint[]) AS e (shard, seq)
         WHERE outbox.shard = e.shard AND outbox.seq = e.seq",
        &shards,
        &seqs,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The n-th wave holds the n-th row of every key.
fn waves(rows: &[StoredRow]) -> Vec<Vec<&StoredRow>> {
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let mut waves: Vec<Vec<&StoredRow>> = Vec::new();
    for row in rows {
        let wave = seen.entry(&row.key).or_insert(0);
        match waves.get_mut(*wave) {
            Some(members) => members.push(row),
            None => waves.push(vec![row]),
        }
        *wave += 1;
    }
    waves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(seq: i64, key: u8) -> StoredRow {
        StoredRow {
            shard: 0,
            seq,
            topic: String::new(),
            key: vec![key],
            headers: HeaderMap::new(),
            payload: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn waves_hold_every_row_once_and_each_key_at_most_once_in_order(keys in proptest::collection::vec(0_u8..5, 0..60)) {
            let rows: Vec<StoredRow> = (0..).zip(&keys).map(|(seq, key)| row(seq, *key)).collect();
            let waves = waves(&rows);
            let mut last: HashMap<&[u8], i64> = HashMap::new();
            let mut total = 0;
            for wave in &waves {
                let distinct: HashSet<&[u8]> = wave.iter().map(|row| row.key.as_slice()).collect();
                prop_assert_eq!(distinct.len(), wave.len());
                for row in wave {
                    prop_assert!(last.insert(&row.key, row.seq).is_none_or(|before| before < row.seq));
                    total += 1;
                }
            }
            prop_assert_eq!(total, rows.len());
        }
    }
}
