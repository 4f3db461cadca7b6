//! Reads and writes Kafka records as they are.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use futures::future::try_join_all;
use portolan_proto::Topic;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

const ANSWER: Duration = Duration::from_secs(10);

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    pub(super) topic: Topic,
    pub(super) key: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) payload: Vec<u8>,
}

impl Copied {
    fn of(topic: Topic, message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Self {
            topic,
            key: message.key().unwrap_or_default().to_vec(),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect(),
            payload: message.payload().unwrap_or_default().to_vec(),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(other, _)| other == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// What a client of the broker begins with.
pub(super) fn client(brokers: &str, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "false")
        .set("log_level", "0");
    config
}

/// Everything that is in the topic, in order within each partition.
pub(super) async fn read(brokers: &str, topic: Topic) -> anyhow::Result<Vec<Copied>> {
    let brokers = brokers.to_owned();
    tokio::task::spawn_blocking(move || read_now(&brokers, topic)).await?
}

fn read_now(brokers: &str, topic: Topic) -> anyhow::Result<Vec<Copied>> {
    let consumer: BaseConsumer = client(brokers, "portolan-faults").create()?;
    let metadata = consumer.fetch_metadata(Some(topic.name()), ANSWER)?;
    let found = metadata.topics().first().context("no such topic")?;
    let mut from = TopicPartitionList::new();
    let mut missing: HashMap<i32, i64> = HashMap::new();
    for partition in found.partitions() {
        let (low, high) = consumer.fetch_watermarks(topic.name(), partition.id(), ANSWER)?;
        if high > low {
            from.add_partition_offset(topic.name(), partition.id(), Offset::Offset(low))?;
            missing.insert(partition.id(), high);
        }
    }
    consumer.assign(&from)?;
    let mut records = Vec::new();
    while !missing.is_empty() {
        let message = consumer.poll(ANSWER).context("the broker stopped sending")??;
        records.push(Copied::of(topic, &message));
        if missing.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
            missing.remove(&message.partition());
        }
    }
    Ok(records)
}

/// Writes records, those of one partition in the given order.
pub(super) async fn write(brokers: &str, records: &[Copied]) -> anyhow::Result<()> {
    let producer: FutureProducer = client(brokers, "portolan-faults")
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "10000")
        .create()?;
    let sent = records.iter().map(|record| {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let name = record.topic.name();
        let record =
            FutureRecord::to(name).key(&record.key).payload(&record.payload).headers(headers);
        producer.send_result(record).map_err(|(error, _)| error)
    });
    let acknowledged = try_join_all(sent.collect::<Result<Vec<_>, _>>()?).await?;
    for outcome in acknowledged {
        outcome.map_err(|(error, _)| error)?;
    }
    Ok(())
}
