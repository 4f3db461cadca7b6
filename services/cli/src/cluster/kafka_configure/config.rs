use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use portolan_messaging::topics;
use portolan_runtime::{Invalid, Validate, config};
use serde::Deserialize;

/// What Kafka should look like.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub(super) brokers: String,
    /// Certificates and private key in one PEM file, of a principal who may do all this.
    pub(super) tls_identity: Option<PathBuf>,
    /// The certificates that the broker's is verified with. Without both files: plaintext.
    pub(super) tls_roots: Option<PathBuf>,
    /// How long to try, in seconds.
    #[serde(default = "default_timeout")]
    pub(super) timeout_secs: u64,
    /// Of every topic.
    #[serde(default = "default_partitions")]
    pub(super) partitions: i32,
    /// Of every topic.
    #[serde(default = "default_replication_factor")]
    pub(super) replication_factor: i16,
    /// The topics; all of the shop's if none is named.
    #[serde(default = "default_topics")]
    topic: Vec<Topic>,
    /// Whose access rules to keep. Nobody's: then the broker needs no authorizer.
    #[serde(default)]
    pub(super) principal: Vec<Principal>,
}

/// A topic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topic {
    /// Its full name.
    pub(super) name: String,
    /// Kafka's settings of a topic, over those that every topic of the shop has.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
}

/// A user of Kafka and what it may do.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Principal {
    /// Without Kafka's prefix `User:`.
    pub(super) name: String,
    /// The topics that it may write to.
    pub(super) produce: BTreeSet<String>,
    /// The topics that it may read.
    pub(super) consume: BTreeSet<String>,
    /// The consumer groups that it may join.
    pub(super) groups: BTreeSet<String>,
}

const fn default_timeout() -> u64 {
    300
}

fn default_partitions() -> i32 {
    i32::try_from(topics::PARTITIONS).unwrap_or(i32::MAX)
}

const fn default_replication_factor() -> i16 {
    1
}

fn default_topics() -> Vec<Topic> {
    topics::names().into_iter().map(|name| Topic { name, settings: BTreeMap::new() }).collect()
}

impl Config {
    /// # Errors
    /// The file cannot be read, or a key is wrong.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).context("cannot read it")?;
        Ok(config::from_toml(&text)?)
    }

    pub(super) fn topics(&self) -> &[Topic] {
        &self.topic
    }

    fn validate_principals(&self) -> Result<(), Invalid> {
        let known: BTreeSet<&str> = self.topic.iter().map(|topic| topic.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        for principal in &self.principal {
            let name = principal.name.as_str();
            let fault = |problem: String| Err(Invalid::new(format!("principal {name}"), problem));
            if !is_plain(name) || !seen.insert(name) {
                return fault("must have a name of its own, of letters, digits and ._-".to_owned());
            }
            for topic in principal.produce.iter().chain(&principal.consume) {
                // Also keeps out `*`, which would mean every topic.
                if !known.contains(topic.as_str()) {
                    return fault(format!("{topic} is not among the topics"));
                }
            }
            if let Some(group) = principal.groups.iter().find(|group| !is_plain(group)) {
                return fault(format!("{group} is not the name of a group"));
            }
        }
        Ok(())
    }
}

/// What Kafka allows in a topic's name, which our groups and principals keep to as well.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name.bytes().all(plain)
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(!self.brokers.is_empty(), "brokers", "must name a broker")?;
        let both = self.tls_identity.is_some() == self.tls_roots.is_some();
        Invalid::unless(both, "tls_identity", "needs tls_roots, and the other way round")?;
        Invalid::unless(self.partitions >= 1, "partitions", "must be at least 1")?;
        let replicas = self.replication_factor >= 1;
        Invalid::unless(replicas, "replication_factor", "must be at least 1")?;
        let named = self.topic.iter().all(|topic| is_plain(&topic.name));
        Invalid::unless(named, "topic", "must have a name of letters, digits and ._-")?;
        self.validate_principals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        config::from_toml(text).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_list_the_topics_are_the_shops_own() {
        let config = parse("brokers = 'k:9092'").unwrap();
        let names: Vec<&str> = config.topics().iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names.len(), 8);
        assert!(names.contains(&"portolan.order.v1"));
        assert!(names.contains(&"portolan.dlq.notification.v1"));
        assert_eq!((config.partitions, config.replication_factor), (12, 1));
    }

    #[test]
    fn a_mistake_is_named() {
        let head = "brokers = 'k:9092'\n";
        let cases = [
            ("tls_identity = '/x'", "tls_identity: needs tls_roots"),
            ("[[principal]]\nname = 'a'\nproduce = ['typo']", "typo is not among the topics"),
            ("[[principal]]\nname = 'a'\nconsume = ['*']", "* is not among the topics"),
            ("[[principal]]\nname = 'a'\ngroups = ['*']", "* is not the name of a group"),
            ("[[principal]]\nname = 'a'\n[[principal]]\nname = 'a'", "a name of its own"),
            ("[[principal]]\nname = 'User:a'", "principal User:a: must have a name"),
            ("[[principal]]\nproduces = []", "unknown key"),
            ("partitions = 0", "partitions: must be at least 1"),
        ];
        for (text, expected) in cases {
            let problem = parse(&format!("{head}{text}")).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
