//! The consumer groups, seen from the broker.

use std::time::Duration;

use portolan_proto::{TOPICS, Topic};
use portolan_testkit::{PATIENCE, eventually};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};

use crate::{Service, Shop};

const ANSWER: Duration = Duration::from_secs(5);
const PARTITIONS: i32 = 3;

/// Which topics each service reads.
const SUBSCRIPTIONS: [(Service, &[Topic]); 4] = [
    (Service::Order, &TOPICS),
    (Service::Inventory, &[Topic::Order]),
    (Service::Payment, &[Topic::Order, Topic::Inventory]),
    (Service::Notification, &[Topic::Order]),
];

impl Shop {
    /// Waits until every consumer group has committed the end of every topic it reads.
    pub async fn caught_up(&self) {
        for (service, topics) in SUBSCRIPTIONS {
            let names: Vec<String> = topics.iter().map(|topic| self.topic(*topic)).collect();
            let what = format!("{} has read everything", service.name());
            eventually(PATIENCE, &what, async || {
                let (brokers, group) = (self.brokers.clone(), self.group(service));
                let names = names.clone();
                let lag = tokio::task::spawn_blocking(move || lag(&brokers, &group, &names));
                (lag.await.ok()? == Some(0)).then_some(())
            })
            .await;
        }
    }

    /// Makes the broker forget how far every group has read. Nothing may be running; members that
    /// were killed are waited for.
    pub async fn forget_offsets(&self) {
        let admin: AdminClient<DefaultClientContext> =
            client(&self.brokers, "unused").create().expect("an admin client");
        for (service, _) in SUBSCRIPTIONS {
            let group = self.group(service);
            eventually(PATIENCE, "a group without members is deleted", async || {
                let options = AdminOptions::new();
                let deleted = admin.delete_groups(&[&group], &options).await.ok()?;
                deleted.iter().all(Result::is_ok).then_some(())
            })
            .await;
        }
    }

    /// Makes a service's group believe that it has read a topic to its end. The service must have
    /// been killed; the broker is waited for to notice.
    pub async fn skip_to_end(&self, service: Service, topic: Topic) {
        let (group, topic) = (self.group(service), self.topic(topic));
        eventually(PATIENCE, "a group without members can be moved", async || {
            let (brokers, group, topic) = (self.brokers.clone(), group.clone(), topic.clone());
            let moved = tokio::task::spawn_blocking(move || skip(&brokers, &group, &topic));
            moved.await.ok()?
        })
        .await;
    }

    fn topic(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.name())
    }

    fn group(&self, service: Service) -> String {
        format!("{}portolan.{}", self.topic_prefix, service.name())
    }
}

fn client(brokers: &str, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group).set("log_level", "0");
    config
}

fn skip(brokers: &str, group: &str, topic: &str) -> Option<()> {
    let consumer: BaseConsumer = client(brokers, group).create().ok()?;
    let mut ends = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let (_, high) = consumer.fetch_watermarks(topic, partition, ANSWER).ok()?;
        ends.add_partition_offset(topic, partition, Offset::Offset(high)).ok()?;
    }
    consumer.commit(&ends, CommitMode::Sync).ok()
}

/// How many records the group has not committed; none when the broker does not answer.
fn lag(brokers: &str, group: &str, topics: &[String]) -> Option<i64> {
    let consumer: BaseConsumer = client(brokers, group).create().ok()?;
    let mut partitions = TopicPartitionList::new();
    for topic in topics {
        partitions.add_partition_range(topic, 0, PARTITIONS - 1);
    }
    let committed = consumer.committed_offsets(partitions, ANSWER).ok()?;
    let mut lag = 0;
    for partition in committed.elements() {
        let (low, high) =
            consumer.fetch_watermarks(partition.topic(), partition.partition(), ANSWER).ok()?;
        let read = if let Offset::Offset(read) = partition.offset() { read } else { low };
        lag += high - read;
    }
    Some(lag)
}
