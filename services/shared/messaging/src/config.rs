use portolan_runtime::{Validate, config::Invalid};
use rdkafka::ClientConfig;
use serde::Deserialize;

/// How to reach Kafka, and how much to take at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub brokers: String,
    /// Put before every topic and group name; empty in production, unique in tests.
    #[serde(default)]
    pub topic_prefix: String,
    /// The partitions every topic must have. A service refuses to start on another number: the
    /// order of one key's events would be lost by changing it.
    #[serde(default = "default_partitions")]
    pub partitions: usize,
    /// Members of the consumer group in this process.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Records in one consumer transaction at most.
    #[serde(default = "default_batch_records")]
    pub max_batch_records: usize,
    /// Weight (order lines) in one consumer transaction at most; a single heavier record still
    /// goes alone.
    #[serde(default = "default_batch_weight")]
    pub max_batch_weight: usize,
    /// How long a silent member keeps its partitions, in milliseconds.
    #[serde(default = "default_session_timeout")]
    pub session_timeout_ms: u32,
    /// How long the relay waits for an acknowledgement, in milliseconds.
    #[serde(default = "default_message_timeout")]
    pub message_timeout_ms: u32,
}

const fn default_partitions() -> usize {
    12
}
const fn default_workers() -> usize {
    1
}
const fn default_batch_records() -> usize {
    256
}
const fn default_batch_weight() -> usize {
    4_000
}
const fn default_session_timeout() -> u32 {
    10_000
}
const fn default_message_timeout() -> u32 {
    15_000
}

impl KafkaConfig {
    /// The full name of a topic in this deployment.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    /// Settings of the relay's producer: idempotent, acknowledged by all in-sync replicas.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", self.message_timeout_ms.to_string())
            .set("queue.buffering.max.messages", "20000");
        config
    }

    /// Settings of a group member. Offsets are stored by hand after the commit of the database
    /// transaction, and the stored ones committed in the background.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", self.topic(group))
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "false")
            .set("auto.commit.interval.ms", "1000")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (self.session_timeout_ms / 5).to_string())
            .set("max.poll.interval.ms", "300000")
            // Costs no latency: the broker answers as soon as there is a byte.
            .set("fetch.wait.max.ms", "250")
            .set("queued.max.messages.kbytes", "8192")
            .set("check.crcs", "true")
            .set("statistics.interval.ms", "5000");
        config
    }

    /// What every client has in common.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("client.id", "portolan");
        config
    }
}

impl Validate for KafkaConfig {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(!self.brokers.is_empty(), "kafka.brokers", "must name a broker")?;
        for (number, key) in [
            (self.partitions, "kafka.partitions"),
            (self.workers, "kafka.workers"),
            (self.max_batch_records, "kafka.max_batch_records"),
            (self.max_batch_weight, "kafka.max_batch_weight"),
        ] {
            Invalid::unless(number >= 1, key, "must be at least 1")?;
        }
        // Longer, and the database would end the relay's idle transaction before the broker answers.
        let timeout = (1_000..=25_000).contains(&self.message_timeout_ms);
        Invalid::unless(timeout, "kafka.message_timeout_ms", "must be 1000 to 25000")?;
        let session = (1_000..=300_000).contains(&self.session_timeout_ms);
        Invalid::unless(session, "kafka.session_timeout_ms", "must be 1000 to 300000")
    }
}
