use std::thread;

use portolan_kernel::{IdGen as _, RandomIds, SystemClock};
use portolan_proto::Topic;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use crate::{PATIENCE, server};

const VARIABLE: &str = "PORTOLAN_TEST_KAFKA";
const PARTITIONS: i32 = 3;

/// Topics of its own for one test, told from those of others by a prefix, deleted at the end.
pub struct TestKafka {
    brokers: String,
    prefix: String,
    producer: FutureProducer,
    topics: Vec<String>,
}

/// What is in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRecord {
    /// Where it is.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Empty if there is none.
    pub key: Vec<u8>,
    /// Names and values in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Empty if there is none.
    pub payload: Vec<u8>,
}

impl TestRecord {
    /// The text of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }
}

impl TestKafka {
    /// Creates the topics, with three partitions each.
    pub async fn new(topics: &[Topic]) -> Self {
        let brokers = server(VARIABLE);
        let unique = RandomIds(SystemClock).next().simple().to_string();
        let producer = client(&brokers)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "0")
            .create()
            .expect("a producer");
        let prefix = format!("t{unique}.");
        let mut kafka = Self { brokers, prefix, producer, topics: Vec::new() };
        let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        kafka.create(&names).await;
        kafka
    }

    /// Creates further topics, named without the prefix, for instance of dead letters.
    pub async fn create(&mut self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| self.full(name)).collect();
        let wanted: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)))
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let created = admin(&self.brokers).create_topics(&wanted, &options).await;
        let created = created.unwrap_or_else(|error| {
            panic!("the test broker {} does not answer: {error}", self.brokers)
        });
        for outcome in created {
            outcome.unwrap_or_else(|(name, code)| panic!("cannot create topic {name}: {code}"));
        }
        self.topics.extend(names);
    }

    /// For a client's configuration: brokers, topic prefix, partitions of each topic.
    pub fn config_parts(&self) -> (String, String, i32) {
        (self.brokers.clone(), self.prefix.clone(), PARTITIONS)
    }

    /// Appends one record as it stands, whether it makes sense or not. Returns partition and
    /// offset.
    pub async fn produce(
        &self,
        topic: Topic,
        key: impl AsRef<[u8]>,
        headers: &[(&str, &str)],
        payload: impl AsRef<[u8]>,
    ) -> (i32, i64) {
        let owned = OwnedHeaders::new_with_capacity(headers.len());
        let headers = headers.iter().fold(owned, |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let name = self.full(topic.name());
        let record =
            FutureRecord::to(&name).key(key.as_ref()).payload(payload.as_ref()).headers(headers);
        let delivered = self.producer.send(record, PATIENCE).await;
        let delivery = delivered.expect("the broker takes the record");
        (delivery.partition, delivery.offset)
    }

    /// Everything that is in the topic now, in order within each partition.
    pub async fn consume_all(&self, topic: Topic) -> Vec<TestRecord> {
        self.consume_named(topic.name()).await
    }

    /// [`TestKafka::consume_all`] of a topic named without the prefix.
    pub async fn consume_named(&self, name: &str) -> Vec<TestRecord> {
        let (brokers, name) = (self.brokers.clone(), self.full(name));
        let read = tokio::task::spawn_blocking(move || read(&brokers, &name));
        read.await.expect("the topic can be read")
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl std::fmt::Debug for TestKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestKafka").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Drop for TestKafka {
    fn drop(&mut self) {
        let (brokers, topics) = (self.brokers.clone(), std::mem::take(&mut self.topics));
        let dropper = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let options = AdminOptions::new();
            runtime.block_on(async {
                let _ = admin(&brokers).delete_topics(&names, &options).await;
            });
        });
        let _ = dropper.join();
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("log_level", "2");
    config
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    client(brokers).create().expect("an admin client")
}

fn read(brokers: &str, topic: &str) -> Vec<TestRecord> {
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", "portolan-testkit")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .create()
        .expect("a consumer");
    let mut records = Vec::new();
    for partition in partitions(&consumer, topic) {
        let watermarks = consumer.fetch_watermarks(topic, partition, PATIENCE);
        let (low, high) = watermarks.expect("the watermarks of a partition");
        if low < high {
            read_partition(&consumer, topic, partition, high, &mut records);
        }
    }
    records
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the topic's metadata");
    let topic = metadata.topics().first().expect("the topic exists");
    topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()
}

fn read_partition(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    high: i64,
    records: &mut Vec<TestRecord>,
) {
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, partition, Offset::Beginning)
        .expect("a partition can be assigned");
    consumer.assign(&assignment).expect("a partition can be assigned");
    loop {
        let polled = consumer.poll(PATIENCE).expect("records up to the watermark");
        let record = owned(&polled.expect("a readable record"));
        let last = record.offset + 1 >= high;
        records.push(record);
        if last {
            return;
        }
    }
}

fn owned(message: &BorrowedMessage<'_>) -> TestRecord {
    let pair = |header: Header<'_, &[u8]>| {
        (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
    };
    TestRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        headers: message.headers().map(|all| all.iter().map(pair).collect()).unwrap_or_default(),
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}
