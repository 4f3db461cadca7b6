//! A member of a consumer group: takes what has accumulated, applies it in one transaction, then
//! stores the offsets.
//!
//! Polling and applying alternate on one thread, so a rebalance callback (which runs inside
//! `poll`) never meets a transaction in flight, and offsets are contiguous by construction. While
//! the database is away the partitions are paused and polling goes on, so that the member stays
//! in its group.

use std::{collections::HashMap, sync::Arc, time::Duration};

use portolan_proto::Topic;
use portolan_runtime::{Context, failpoint};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    batch::{Delivery, Parts, Processor},
    client::GroupContext,
    envelope::Raw,
    handler::{Group, Handler},
    kafka::Kafka,
    relay::Waker,
    topics::group_id,
};

const POLL: Duration = Duration::from_millis(100);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Joins `group` on `topics` with as many members as configured, and applies what arrives until
/// shutdown.
///
/// # Errors
/// librdkafka refuses the configuration.
pub(crate) fn spawn_members<H: Handler>(
    ctx: &Context,
    pool: &PgPool,
    kafka: &Kafka,
    group: Group,
    topics: &[Topic],
    handler: &Arc<H>,
    waker: &Waker,
) -> KafkaResult<()> {
    let config = kafka.config();
    let topics: Vec<String> = topics.iter().map(|topic| config.topic(topic.name())).collect();
    for _ in 0..config.workers.max(1) {
        let mut kafka = kafka.clone();
        let consumer = consumer(&mut kafka, group)?;
        let member = Member {
            processor: Processor {
                pool: pool.clone(),
                group,
                handler: Arc::clone(handler),
                clock: Arc::clone(&ctx.clock),
                waker: waker.clone(),
            },
            kafka,
            topics: topics.clone(),
            consumer,
            limits: Limits { records: config.max_batch_records, weight: config.max_batch_weight },
            stop: ctx.tasks.soft(),
            runtime: Handle::current(),
        };
        member.join()?;
        ctx.tasks.spawn_blocking("consumer", move || Ok(member.run()?));
    }
    Ok(())
}

/// A consumer that has not joined its group yet.
fn consumer(kafka: &mut Kafka, group: Group) -> KafkaResult<BaseConsumer<GroupContext>> {
    let context = GroupContext::new(group.name, kafka.answers());
    kafka.consumer(&group_id(group.name)).create_with_context(context)
}

struct Limits {
    records: usize,
    weight: usize,
}

struct Member<H> {
    processor: Processor<H>,
    kafka: Kafka,
    topics: Vec<String>,
    consumer: BaseConsumer<GroupContext>,
    limits: Limits,
    stop: CancellationToken,
    runtime: Handle,
}

impl<H: Handler> Member<H> {
    fn join(&self) -> KafkaResult<()> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics)
    }

    fn run(mut self) -> KafkaResult<()> {
        let mut early = Vec::new();
        while !self.stop.is_cancelled() {
            if early.is_empty() {
                self.renew()?;
            }
            let batch = self.collect(std::mem::take(&mut early));
            if !batch.is_empty() && !self.process(batch, &mut early) {
                break;
            }
        }
        // Dropping the consumer commits what is stored and leaves the group at once.
        Ok(())
    }

    /// Between two batches everything that was polled is applied and its offset stored: so the old
    /// consumer can commit and leave, and the new one begins where it ended.
    fn renew(&mut self) -> KafkaResult<()> {
        let group = self.processor.group;
        let make = |kafka: &mut Kafka| consumer(kafka, group);
        if self.consumer.context().is_blind() {
            let why = "it lost sight of the brokers";
            if let Some(old) = self.kafka.replace("consumer", why, &mut self.consumer, make) {
                // It may have nobody to take leave of, and wait for that.
                std::thread::spawn(move || drop(old));
                self.join()?;
            }
            return Ok(());
        }
        let Some(old) = self.kafka.renew("consumer", &mut self.consumer, make) else {
            return Ok(());
        };
        drop(old);
        self.join()
    }

    /// Waits for a first record, then takes what else is already here.
    fn collect(&self, early: Vec<Delivery>) -> Vec<Delivery> {
        let mut batch = early;
        let mut weight: usize = batch.iter().map(|d| self.processor.weight(d)).sum();
        while batch.len() < self.limits.records && weight < self.limits.weight {
            let wait = if batch.is_empty() { POLL } else { Duration::ZERO };
            let Some(delivery) = self.poll(wait) else { break };
            weight += self.processor.weight(&delivery);
            batch.push(delivery);
        }
        batch
    }

    fn poll(&self, wait: Duration) -> Option<Delivery> {
        match self.consumer.poll(wait)? {
            Ok(message) => Some(self.processor.receive(Raw::from_message(&message))),
            Err(error) => {
                tracing::debug!(%error, group = self.processor.group.name, "poll");
                None
            }
        }
    }

    /// Applies a batch, however long the world takes, then stores its offsets. Records of newly
    /// assigned partitions that arrive meanwhile are kept in `early`. False when told to stop.
    fn process(&self, batch: Vec<Delivery>, early: &mut Vec<Delivery>) -> bool {
        let offsets = next_offsets(&batch);
        let started = self.processor.clock.now();
        let mut parts: Parts = vec![batch];
        let mut wait = FIRST_RETRY;
        while let Err(error) = self.runtime.block_on(self.processor.advance(&mut parts)) {
            tracing::warn!(
                group = self.processor.group.name,
                error = format!("{error:#}"),
                "batch not applied; it will be tried again"
            );
            metrics::counter!("portolan_consumer_retries_total", "group" => self.processor.group.name)
                .increment(1);
            self.stay_in_group(wait, early);
            wait = (wait * 2).min(LAST_RETRY);
            if self.stop.is_cancelled() {
                return false;
            }
        }
        let elapsed = self.processor.clock.now() - started;
        metrics::histogram!("portolan_consumer_batch_seconds", "group" => self.processor.group.name)
            .record(elapsed.as_seconds_f64());
        if wait > FIRST_RETRY {
            self.resume();
        }
        self.store(&offsets);
        true
    }

    fn stay_in_group(&self, wait: Duration, early: &mut Vec<Delivery>) {
        if let Ok(assigned) = self.consumer.assignment()
            && let Err(error) = self.consumer.pause(&assigned)
        {
            tracing::debug!(%error, "pause");
        }
        if let Some(delivery) = self.poll(wait) {
            early.push(delivery);
        }
    }

    fn resume(&self) {
        if let Ok(assigned) = self.consumer.assignment()
            && let Err(error) = self.consumer.resume(&assigned)
        {
            tracing::warn!(%error, "resume");
        }
    }

    /// A partition that was revoked meanwhile refuses its offset: its new owner reads the records
    /// again and finds them in the inbox.
    fn store(&self, offsets: &HashMap<(String, i32), i64>) {
        failpoint!("consumer:before-offsets");
        for ((topic, partition), next) in offsets {
            let mut list = TopicPartitionList::new();
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
            if let Err(error) = added.and_then(|()| self.consumer.store_offsets(&list)) {
                tracing::debug!(%error, topic, partition, "offset not stored");
            }
        }
        failpoint!("consumer:after-offsets");
    }
}

fn next_offsets(batch: &[Delivery]) -> HashMap<(String, i32), i64> {
    let mut offsets = HashMap::new();
    for Delivery { raw, .. } in batch {
        let next = offsets.entry((raw.topic.clone(), raw.partition)).or_insert(0);
        *next = (raw.offset + 1).max(*next);
    }
    offsets
}
