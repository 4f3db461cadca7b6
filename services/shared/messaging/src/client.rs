//! What librdkafka tells a group member.

use rdkafka::{
    ClientContext, Statistics,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};

/// Callbacks of a group member.
pub(crate) struct GroupContext {
    pub(crate) group: &'static str,
}

impl ClientContext for GroupContext {
    fn stats(&self, statistics: Statistics) {
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
