use std::path::PathBuf;

use portolan_runtime::{Validate, config::Invalid};
use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::topics;

/// A year: longer than anybody waits, and short enough to be added to a time.
const MAX_CONNECT_TIMEOUT_SECS: u64 = 365 * 86_400;

/// How to reach Kafka, and how much to take at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub brokers: String,
    /// Put before every topic and group name; empty in production, unique in tests.
    #[serde(default)]
    pub topic_prefix: String,
    /// A PEM file of the certificates that the brokers' must come from. Given, with
    /// `tls_identity`, connections are encrypted and both sides verified. Read again when it
    /// changes.
    #[serde(default)]
    pub tls_roots: Option<PathBuf>,
    /// A PEM file with our certificate, its issuer and its PKCS#8 key. Read again when it changes.
    #[serde(default)]
    pub tls_identity: Option<PathBuf>,
    /// How long the start waits for a broker and for the topics, in seconds.
    #[serde(default = "default_connect_timeout_secs")]
    pub connect_timeout_secs: u64,
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

const fn default_connect_timeout_secs() -> u64 {
    10
}
const fn default_partitions() -> usize {
    topics::PARTITIONS
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
    /// The defaults for a list of brokers, without TLS.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic_prefix: String::new(),
            tls_roots: None,
            tls_identity: None,
            connect_timeout_secs: default_connect_timeout_secs(),
            partitions: default_partitions(),
            workers: default_workers(),
            max_batch_records: default_batch_records(),
            max_batch_weight: default_batch_weight(),
            session_timeout_ms: default_session_timeout(),
            message_timeout_ms: default_message_timeout(),
        }
    }

    /// The full name of a topic in this deployment.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    /// Makes `config` one of the relay's producer: idempotent, acknowledged by all in-sync
    /// replicas.
    pub(crate) fn set_producer(&self, config: &mut ClientConfig) {
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", self.message_timeout_ms.to_string())
            .set("queue.buffering.max.messages", "20000");
    }

    /// Makes `config` one of a group member. Offsets are stored by hand after the commit of the
    /// database transaction, and the stored ones committed in the background.
    pub(crate) fn set_consumer(&self, config: &mut ClientConfig, group: &str) {
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
    }
}

impl Validate for KafkaConfig {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(!self.brokers.is_empty(), "kafka.brokers", "must name a broker")?;
        let identity = self.tls_identity.is_some() || self.tls_roots.is_none();
        Invalid::unless(identity, "kafka.tls_identity", "must be given with kafka.tls_roots")?;
        let roots = self.tls_roots.is_some() || self.tls_identity.is_none();
        Invalid::unless(roots, "kafka.tls_roots", "must be given with kafka.tls_identity")?;
        let wait = self.connect_timeout_secs <= MAX_CONNECT_TIMEOUT_SECS;
        Invalid::unless(wait, "kafka.connect_timeout_secs", "must be at most a year")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tls_file_without_the_other_is_refused_by_name() {
        let (identity, roots) = (Some(PathBuf::from("/i")), Some(PathBuf::from("/r")));
        let verdict = |tls_identity, tls_roots| {
            let config = KafkaConfig { tls_roots, tls_identity, ..KafkaConfig::new("k:9092") };
            config.validate().map_err(|invalid| invalid.key)
        };
        assert_eq!(verdict(None, None), Ok(()));
        assert_eq!(verdict(identity.clone(), roots.clone()), Ok(()));
        assert_eq!(verdict(identity, None), Err("kafka.tls_roots".to_owned()));
        assert_eq!(verdict(None, roots), Err("kafka.tls_identity".to_owned()));
    }
}
