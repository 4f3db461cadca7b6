//! One Kafka node (broker and controller in one) and the topics.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nix::sys::signal::Signal;
use portolan_proto::TOPICS;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};

use super::{
    component::{Component, Program},
    logs::Logs,
    ports::loopback,
    probe::Probe,
    programs::Programs,
    settings::Settings,
    state::{StateDir, random_bytes},
    supervisor::run_once,
};

const PROPERTIES: &str = include_str!("../../../../deploy/local/kafka/server.properties");
const LOGGING: &str = include_str!("../../../../deploy/local/kafka/log4j2.yaml");
/// The consumer groups, each of which has a topic for its dead letters.
const GROUPS: [&str; 4] = ["order", "inventory", "payment", "notification"];
/// What the services insist on.
const PARTITIONS: i32 = 12;
/// Both are tied to the retention of the inboxes: a week, dropped by the day.
const RETENTION_MS: &str = "604800000";
const SEGMENT_MS: &str = "86400000";

#[derive(Debug)]
pub(crate) struct Kafka<'a> {
    state: &'a StateDir,
    programs: &'a Programs,
    port: u16,
    controller_port: u16,
}

impl<'a> Kafka<'a> {
    pub(crate) fn new(state: &'a StateDir, programs: &'a Programs, settings: &Settings) -> Self {
        let (port, controller_port) = (settings.ports.kafka, settings.ports.kafka_controller);
        Self { state, programs, port, controller_port }
    }

    pub(crate) fn brokers(&self) -> String {
        loopback(self.port).to_string()
    }

    /// Writes the configuration, and formats the data directory if it is new.
    ///
    /// # Errors
    /// A file cannot be written, or Kafka's own.
    pub(crate) async fn prepare(&self, logs: &Logs) -> anyhow::Result<()> {
        let dir = self.state.kafka();
        let data = dir.join("data");
        fs::create_dir_all(&dir)?;
        let properties = PROPERTIES
            .replace("@PORT@", &self.port.to_string())
            .replace("@CONTROLLER_PORT@", &self.controller_port.to_string())
            .replace("@DATA@", &data.display().to_string());
        fs::write(dir.join("server.properties"), properties)?;
        fs::write(dir.join("log4j2.yaml"), LOGGING)?;
        if data.join("meta.properties").exists() {
            return Ok(());
        }
        let cluster = cluster_id(random_bytes()?);
        let format = self
            .java("-Xmx128m")
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", &cluster])
            .args(["--config", "server.properties"]);
        run_once("kafka-format", format.command(), logs).await
    }

    pub(crate) fn component(&self) -> Component {
        Component {
            name: "kafka".to_owned(),
            port: self.port,
            program: self.java("-Xmx320m").args(["kafka.Kafka", "server.properties"]),
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_secs(20),
            probe: Probe::Connect(self.port),
        }
    }

    fn java(&self, heap: &str) -> Program {
        Program::new(&self.programs.java, self.state.kafka())
            .args([heap, "-XX:+UseSerialGC", "-Dlog4j2.configurationFile=log4j2.yaml", "-cp"])
            .args([self.programs.kafka_jars.join("*")])
    }

    /// Makes the topics as far as they are missing.
    ///
    /// # Errors
    /// The broker does not answer or refuses.
    pub(crate) async fn create_topics(&self) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create()?;
        let names: Vec<String> = TOPICS
            .iter()
            .map(|topic| topic.name().to_owned())
            .chain(GROUPS.iter().map(|group| format!("portolan.dlq.{group}.v1")))
            .collect();
        let topics: Vec<NewTopic<'_>> = names.iter().map(|name| new_topic(name)).collect();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let results =
            admin.create_topics(&topics, &options).await.context("Kafka does not answer")?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, error)) => bail!("cannot create the topic {topic}: {error}"),
            }
        }
        Ok(())
    }
}

/// A cluster id as Kafka writes it. The first bit is cleared, or one id in 64 would begin with a
/// dash and be taken for an option.
fn cluster_id(mut random: [u8; 16]) -> String {
    random[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(random)
}

fn new_topic(name: &str) -> NewTopic<'_> {
    NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))
        .set("retention.ms", RETENTION_MS)
        .set("segment.ms", SEGMENT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cluster_id_looks_like_an_option() {
        for first in 0..=u8::MAX {
            let id = cluster_id([first; 16]);
            assert!(!id.starts_with('-') && id.len() == 22, "{id}");
        }
    }
}
