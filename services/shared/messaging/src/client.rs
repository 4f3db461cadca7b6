//! What librdkafka tells us about itself.

use std::{sync::Arc, time::Duration};

use portolan_proto::TOPICS;
use portolan_runtime::{Check, Context};
use rdkafka::{
    ClientContext, Statistics,
    admin::AdminClient,
    client::DefaultClientContext,
    config::FromClientConfig as _,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};

use crate::KafkaConfig;

const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

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

/// Keeps `check` true while a broker answers.
///
/// # Errors
/// The configuration is refused by librdkafka.
pub(crate) fn watch_broker(ctx: &Context, kafka: &KafkaConfig, check: Check) -> anyhow::Result<()> {
    let client: AdminClient<DefaultClientContext> = AdminClient::from_config(&kafka.client())?;
    let client = Arc::new(client);
    let topic = kafka.topic(TOPICS[0].name());
    let stop = ctx.tasks.soft();
    ctx.tasks.spawn("broker watch", async move {
        let mut every = tokio::time::interval(PROBE_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            let (client, topic) = (Arc::clone(&client), topic.clone());
            let probe = tokio::task::spawn_blocking(move || {
                client.inner().fetch_metadata(Some(&topic), PROBE_TIMEOUT).map(|_| ())
            });
            let up = match probe.await? {
                Ok(()) => {
                    check.ok();
                    1.0
                }
                Err(error) => {
                    check.fail(format!("no broker answers: {error}"));
                    0.0
                }
            };
            metrics::gauge!("portolan_kafka_up").set(up);
        }
        Ok(())
    });
    Ok(())
}
