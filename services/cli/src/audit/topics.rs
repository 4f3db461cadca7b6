//! Reads the Kafka topics from their first to their last record.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use portolan_proto::{TOPICS, Topic};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Headers as _},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::databases::Databases;

/// How long the broker may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The names of the consumer groups, which are those of their dead letter topics.
pub(super) const GROUPS: [&str; 4] = ["order", "inventory", "payment", "notification"];

/// `[kafka]` of a configuration file: how to reach the topics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kafka {
    /// `host:port`, separated by commas.
    brokers: String,
    /// What stands before every topic's name.
    #[serde(default)]
    topic_prefix: String,
    /// A PEM file of the certificates that the brokers' must come from: given, the connections are
    /// encrypted.
    #[serde(default)]
    tls_roots: Option<PathBuf>,
    /// A PEM file with our certificate, its issuer and its key, shown to the brokers.
    #[serde(default)]
    tls_identity: Option<PathBuf>,
}

impl Kafka {
    /// With the certificates that the databases are reached with, if there are any.
    pub(super) fn beside(databases: &Databases, brokers: String, topic_prefix: String) -> Self {
        let Databases { tls_roots, tls_identity, .. } = databases.clone();
        Self { brokers, topic_prefix, tls_roots, tls_identity }
    }

    /// Made anew for every reading: the certificate may be another by then.
    fn client(&self) -> anyhow::Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("metadata.recovery.strategy", "none")
            .set("group.id", "portolan-audit")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "50");
        if let Some(file) = &self.tls_roots {
            config.set("security.protocol", "ssl").set("ssl.ca.pem", read_pem(file)?);
        }
        if let Some(file) = &self.tls_identity {
            // Read once: certificate and key belong together.
            let pem = read_pem(file)?;
            config.set("ssl.certificate.pem", &pem).set("ssl.key.pem", &pem);
        }
        config.create().context("cannot make a Kafka client")
    }
}

fn read_pem(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// One record, without its value.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) topic: Topic,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The order id that the key is, if it is one.
    pub(super) key: Option<Uuid>,
    /// The `CloudEvents` id, if it is a UUID.
    pub(super) id: Option<Uuid>,
    /// The `CloudEvents` type, empty if there is none.
    pub(super) kind: String,
    /// SHA-256 of the value.
    pub(super) sha256: Vec<u8>,
}

impl Published {
    /// Where it is: topic, partition and offset.
    pub(super) fn place(&self) -> String {
        format!("{}[{}]@{}", self.topic.name(), self.partition, self.offset)
    }
}

/// What all topics hold.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// In the order of topic, partition and offset.
    pub(super) records: Vec<Published>,
    /// Topics of which the broker has already dropped records.
    pub(super) truncated: Vec<Topic>,
    /// Records on the dead letter topics, by consumer group.
    pub(super) dead: Vec<(&'static str, u64)>,
}

/// Reads every topic; of the dead letters only their number is kept. Blocks.
///
/// # Errors
/// The broker does not answer, or a topic is missing.
pub(super) fn read(kafka: &Kafka) -> anyhow::Result<Topics> {
    let consumer = kafka.client()?;
    let metadata = consumer
        .fetch_metadata(None, ANSWER)
        .with_context(|| format!("no answer from Kafka at {}", kafka.brokers))?;
    let partitions: HashMap<String, Vec<i32>> = metadata
        .topics()
        .iter()
        .map(|topic| {
            let ids = topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
            (topic.name().to_owned(), ids.collect())
        })
        .collect();
    let mut topics = Topics::default();
    for topic in TOPICS {
        let name = format!("{}{}", kafka.topic_prefix, topic.name());
        let Some(ids) = partitions.get(&name) else { bail!("Kafka has no topic {name}") };
        read_topic(&consumer, topic, &name, ids, &mut topics)?;
    }
    for group in GROUPS {
        let name = format!("{}portolan.dlq.{group}.v1", kafka.topic_prefix);
        if let Some(ids) = partitions.get(&name) {
            topics.dead.push((group, letters(&consumer, &name, ids)?));
        }
    }
    Ok(topics)
}

/// How many letters there are. A relay may publish one twice; one without an id counts each time.
fn letters(consumer: &BaseConsumer, name: &str, partitions: &[i32]) -> anyhow::Result<u64> {
    let mut read = Topics::default();
    // They are of no topic of events: only their ids are looked at.
    read_topic(consumer, Topic::Order, name, partitions, &mut read)?;
    let ids: HashSet<Uuid> = read.records.iter().filter_map(|record| record.id).collect();
    let nameless = read.records.iter().filter(|record| record.id.is_none()).count();
    Ok(u64::try_from(ids.len() + nameless)?)
}

fn watermarks(consumer: &BaseConsumer, name: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
    consumer
        .fetch_watermarks(name, partition, ANSWER)
        .with_context(|| format!("cannot read the watermarks of {name}[{partition}]"))
}

fn read_topic(
    consumer: &BaseConsumer,
    topic: Topic,
    name: &str,
    partitions: &[i32],
    into: &mut Topics,
) -> anyhow::Result<()> {
    let mut ends = HashMap::new();
    let mut assignment = TopicPartitionList::new();
    for &partition in partitions {
        let (low, high) = watermarks(consumer, name, partition)?;
        if low > 0 && !into.truncated.contains(&topic) {
            into.truncated.push(topic);
        }
        if high > low {
            ends.insert(partition, high);
            assignment.add_partition_offset(name, partition, Offset::Offset(low))?;
        }
    }
    if ends.is_empty() {
        return Ok(());
    }
    consumer.assign(&assignment).with_context(|| format!("cannot read {name}"))?;
    let first = into.records.len();
    drain(consumer, topic, name, &mut ends, &mut into.records)?;
    consumer.unassign()?;
    into.records[first..].sort_by_key(|record| (record.partition, record.offset));
    Ok(())
}

/// Polls until every partition has reached its end; a record past it may come along.
fn drain(
    consumer: &BaseConsumer,
    topic: Topic,
    name: &str,
    ends: &mut HashMap<i32, i64>,
    records: &mut Vec<Published>,
) -> anyhow::Result<()> {
    while !ends.is_empty() {
        match consumer.poll(ANSWER) {
            Some(Ok(message)) => {
                if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                    ends.remove(&message.partition());
                }
                records.push(published(topic, &message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            // The library asks for its group's coordinator, though nothing of a group is used
            // here: whoever may only read topics is refused that.
            Some(Err(KafkaError::MessageConsumption(Code::GroupAuthorizationFailed))) => {}
            Some(Err(error)) => return Err(error).with_context(|| format!("cannot read {name}")),
            None => bail!("Kafka sent nothing of {name} for {} s", ANSWER.as_secs()),
        }
    }
    Ok(())
}

fn published(topic: Topic, message: &BorrowedMessage<'_>) -> Published {
    let header = |name: &str| {
        message
            .headers()
            .and_then(|headers| headers.iter().find(|header| header.key == name)?.value)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    };
    Published {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().and_then(uuid_of),
        id: Uuid::try_parse(&header("ce_id")).ok(),
        kind: header("ce_type"),
        sha256: Sha256::digest(message.payload().unwrap_or_default()).to_vec(),
    }
}

/// An order id as a key: its 16 bytes or its text.
pub(super) fn uuid_of(key: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(key).ok().or_else(|| Uuid::try_parse_ascii(key).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_order_id_in_bytes_or_in_text() {
        let id = Uuid::from_u128(7);
        assert_eq!(uuid_of(id.as_bytes()), Some(id));
        assert_eq!(uuid_of(id.to_string().as_bytes()), Some(id));
        assert_eq!(uuid_of(b"order-1"), None);
    }
}
