//! What librdkafka tells a group member.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use rdkafka::{
    ClientContext, Statistics,
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
    statistics::ConsumerGroup,
};

/// A consumer that was without its group, or without the leader of a partition, in so many statistics
/// in a row (one every five seconds), although a broker answers others, is replaced, whatever may be
/// the matter.
const LOST_FOR: u32 = 4;

/// Callbacks of a group member.
pub(crate) struct GroupContext {
    group: &'static str,
    blind: AtomicBool,
    /// In how many statistics in a row something was missing.
    lost: AtomicU32,
    /// Whether a broker answers whoever asks: see [`crate::kafka::Kafka::answers`].
    answers: Arc<AtomicBool>,
}

impl GroupContext {
    pub(crate) fn new(group: &'static str, answers: Arc<AtomicBool>) -> Self {
        Self { group, blind: AtomicBool::new(false), lost: AtomicU32::new(0), answers }
    }

    /// Whether the consumer has lost sight of the brokers or of a partition for good: only another one
    /// will find them. A single broker that stood still for longer than its session is in no answer
    /// about the brokers for a moment, and its partitions have no leader. Then librdkafka 2.12 forgets
    /// every broker, those that it was told to begin with included, and may never look for a partition's
    /// leader again (its issue 5430).
    pub(crate) fn is_blind(&self) -> bool {
        self.blind.load(Ordering::Relaxed)
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "METADATAUPDATE" && message.contains("new leader") {
            self.blind.store(true, Ordering::Relaxed);
        }
        DefaultClientContext.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        // Those that it made up for itself, as the group's coordinator, have no address of their own.
        let no_broker = statistics.brokers.values().all(|broker| broker.source == "logical");
        let lost = if is_whole(&statistics) || !self.answers.load(Ordering::Relaxed) {
            self.lost.store(0, Ordering::Relaxed);
            0
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed) + 1
        };
        if no_broker || lost >= LOST_FOR {
            self.blind.store(true, Ordering::Relaxed);
        }
        let lag: i64 = statistics
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values())
            .map(|partition| partition.consumer_lag.max(0))
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("portolan_consumer_lag_records", "group" => self.group).set(lag as f64);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(group = self.group, %error, reason, "kafka");
    }
}

/// Whether the consumer is in its group and reads every partition that it was given.
fn is_whole(statistics: &Statistics) -> bool {
    let in_group = |group: &ConsumerGroup| group.state == "up" && group.join_state == "steady";
    let grouped = statistics.cgrp.as_ref().is_none_or(in_group);
    let mut partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
    grouped && partitions.all(|partition| !partition.desired || partition.leader >= 0)
}

impl ConsumerContext for GroupContext {
    /// No transaction is in flight here (see [`crate::consumer`]), so every stored offset is of a
    /// committed batch: commit them before somebody else takes the partitions over.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) if partitions.count() > 0 => {
                if let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
                    tracing::debug!(group = self.group, %error, "commit on revoke");
                }
                // A pause outlives the assignment: without this, a partition that comes back
                // later would never be fetched again.
                if let Err(error) = consumer.resume(partitions) {
                    tracing::debug!(group = self.group, %error, "resume on revoke");
                }
            }
            Rebalance::Revoke(_) | Rebalance::Assign(_) | Rebalance::Error(_) => {}
        }
        tracing::debug!(group = self.group, ?rebalance, "rebalance");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rdkafka::statistics::{Broker, Partition, Topic};

    use super::*;

    #[test]
    fn a_consumer_is_blind_when_it_is_without_a_leader_for_long() {
        let answers = Arc::new(AtomicBool::new(true));
        let context = GroupContext::new("test", Arc::clone(&answers));
        let partition = Partition { desired: true, leader: -1, ..Partition::default() };
        let topic = Topic { partitions: [(0, partition)].into(), ..Topic::default() };
        let without = || Statistics {
            topics: [("topic".to_owned(), topic.clone())].into(),
            ..with_broker("learned")
        };
        for _ in 1..LOST_FOR {
            context.stats(without());
        }
        context.stats(with_broker("learned"));
        for _ in 1..LOST_FOR {
            context.stats(without());
        }
        assert!(!context.is_blind(), "it found it in between");
        answers.store(false, Ordering::Relaxed);
        for _ in 0..LOST_FOR {
            context.stats(without());
        }
        assert!(!context.is_blind(), "another one would find nobody either");
        answers.store(true, Ordering::Relaxed);
        for _ in 1..LOST_FOR {
            context.stats(without());
        }
        context.stats(without());
        assert!(context.is_blind());
    }

    #[test]
    fn a_consumer_is_blind_when_it_does_not_come_into_its_group() {
        for (state, join_state, blind) in
            [("up", "steady", false), ("query-coord", "init", true), ("up", "wait-join", true)]
        {
            let context = context();
            for _ in 0..LOST_FOR {
                let (state, join_state) = (state.to_owned(), join_state.to_owned());
                let group = ConsumerGroup { state, join_state, ..ConsumerGroup::default() };
                context.stats(Statistics { cgrp: Some(group), ..with_broker("learned") });
            }
            assert_eq!(context.is_blind(), blind, "{state} {join_state}");
        }
    }

    fn context() -> GroupContext {
        GroupContext::new("test", Arc::new(AtomicBool::new(true)))
    }

    fn with_broker(source: &str) -> Statistics {
        let broker = Broker { source: source.to_owned(), ..Broker::default() };
        let brokers = HashMap::from([("broker".to_owned(), broker)]);
        Statistics { brokers, ..Statistics::default() }
    }

    #[test]
    fn a_consumer_that_knows_of_no_broker_is_blind() {
        let context = context();
        context.stats(with_broker("logical"));
        assert!(context.is_blind());
    }

    #[test]
    fn a_partition_without_a_leader_is_told_from_what_passes() {
        let context = context();
        for (facility, message) in [
            ("FAIL", "127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed"),
            ("METADATAUPDATE", "Partition portolan.order.v1(id)[4]: not found in cache"),
        ] {
            context.log(RDKafkaLogLevel::Warning, facility, message);
            assert!(!context.is_blind(), "{facility} {message}");
        }
        context.stats(with_broker("learned"));
        assert!(!context.is_blind());
        let message = "Partition portolan.order.v1(id)[4]: new leader-1 not found in cache";
        context.log(RDKafkaLogLevel::Warning, "METADATAUPDATE", message);
        assert!(context.is_blind());
    }
}
