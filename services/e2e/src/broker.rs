use std::{path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use portolan_proto::TOPICS;
use portolan_testkit::{PATIENCE, eventually, free_port};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{Program, Scratch};

const PARTITIONS: i32 = 3;
const SETTINGS: &str = include_str!("../../../deploy/local/kafka/server.properties");
const LOGGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/local/kafka/log4j2.yaml");

/// The consumer groups, each with a topic of dead letters.
pub(crate) const GROUPS: [&str; 4] = ["order", "inventory", "payment", "notification"];

/// A Kafka broker for one test, which may take it away and bring it back.
#[derive(Debug)]
pub struct Broker {
    /// The broker, and its controller if that is apart.
    programs: Vec<Program>,
    address: String,
    _scratch: Scratch,
}

impl Broker {
    /// Formats a directory and starts a broker on it, with the shop's topics.
    pub async fn start() -> Self {
        let scratch = Scratch::new();
        let ports = (free_port(), free_port());
        let mut program = node(&scratch, "kafka", &settings(&scratch, "kafka", ports)).await;
        program.start();
        Self::open(vec![program], ports.0, scratch).await
    }

    /// The same with its controller in a process of its own, which notices when the broker stands
    /// still, and takes its partitions away.
    pub async fn with_controller() -> Self {
        let scratch = Scratch::new();
        let ports = (free_port(), free_port());
        let both = "process.roles=broker,controller\nnode.id=1\n";
        let listener = format!("CONTROLLER://127.0.0.1:{}", ports.1);
        let controller = settings(&scratch, "controller", ports)
            .replace(both, "process.roles=controller\nnode.id=1\n")
            .replace(
                &format!("listeners=PLAINTEXT://127.0.0.1:{},{listener}", ports.0),
                &format!("listeners={listener}"),
            )
            .replace(&format!("advertised.listeners=PLAINTEXT://127.0.0.1:{}\n", ports.0), "")
            .replace("inter.broker.listener.name=PLAINTEXT\n", "");
        let broker = settings(&scratch, "kafka", ports)
            .replace(both, "process.roles=broker\nnode.id=2\n")
            .replace(&format!(",{listener}"), "");
        let mut programs = Vec::new();
        for (name, settings) in [("kafka", broker), ("controller", controller)] {
            let mut program = node(&scratch, name, &settings).await;
            program.start();
            programs.push(program);
        }
        Self::open(programs, ports.0, scratch).await
    }

    async fn open(programs: Vec<Program>, port: u16, scratch: Scratch) -> Self {
        let broker = Self { programs, address: format!("127.0.0.1:{port}"), _scratch: scratch };
        broker.ready().await;
        create_topics(&broker.address).await;
        broker
    }

    fn program(&self) -> &Program {
        self.programs.first().expect("a broker")
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Takes it away without warning.
    pub fn kill(&mut self) {
        self.programs.iter_mut().for_each(Program::kill);
    }

    /// Makes it stand still.
    pub fn freeze(&self) {
        self.program().signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.program().signal(Signal::SIGCONT);
    }

    /// Brings it back with everything that it had stored.
    pub async fn restart(&mut self) {
        self.programs.iter_mut().for_each(Program::start);
        self.ready().await;
    }

    async fn ready(&self) {
        eventually(PATIENCE, "the test's own broker answers", async || {
            let client: BaseConsumer = client(&self.address).create().ok()?;
            let asked = tokio::task::spawn_blocking(move || {
                client.fetch_metadata(None, Duration::from_secs(1)).is_ok()
            });
            asked.await.ok()?.then_some(())
        })
        .await;
    }
}

/// The settings of a broker that is its own controller.
fn settings(scratch: &Scratch, name: &str, (port, controller): (u16, u16)) -> String {
    SETTINGS
        .replace("@PORT@", &port.to_string())
        .replace("@CONTROLLER_PORT@", &controller.to_string())
        .replace("@DATA@", &scratch.path().join(name).join("data").display().to_string())
}

/// A node with a formatted directory, not yet started.
async fn node(scratch: &Scratch, name: &str, settings: &str) -> Program {
    let settings = scratch.write(&format!("{name}.properties"), settings);
    let file = settings.display().to_string();
    let format = ["kafka.tools.StorageTool", "format", "-t", "cG9ydG9sYW4tZTJlLTAwMQ", "-c", &file];
    let formatted = java(&format!("{name}-format"), &format, &settings).run(PATIENCE).await;
    assert_eq!(formatted.code, Some(0), "{}", formatted.output);
    java(name, &["kafka.Kafka", &file], &settings)
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("log_level", "0");
    config
}

async fn create_topics(address: &str) {
    let admin: AdminClient<DefaultClientContext> =
        client(address).create().expect("an admin client");
    let names: Vec<String> = TOPICS
        .iter()
        .map(|topic| topic.name().to_owned())
        .chain(GROUPS.iter().map(|group| format!("portolan.dlq.{group}.v1")))
        .collect();
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)))
        .collect();
    let created = admin.create_topics(&topics, &AdminOptions::new()).await.expect("an answer");
    for topic in created {
        topic.expect("a new topic");
    }
    topics_are_known(address, "portolan.", names.len()).await;
}

/// Waits until the broker names so many topics with this prefix: it says that a topic is created
/// before it knows it itself.
pub(crate) async fn topics_are_known(address: &str, prefix: &str, count: usize) {
    eventually(PATIENCE, "the broker knows the new topics", async || {
        let client: BaseConsumer = client(address).create().ok()?;
        let prefix = prefix.to_owned();
        let known = tokio::task::spawn_blocking(move || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(5)).ok()?;
            let topics = metadata.topics().iter().filter(|topic| topic.name().starts_with(&prefix));
            Some(topics.filter(|topic| !topic.partitions().is_empty()).count())
        });
        (known.await.ok()?? >= count).then_some(())
    })
    .await;
}

fn java(name: &str, arguments: &[&str], settings: &std::path::Path) -> Program {
    let logging = format!("-Dlog4j2.configurationFile={LOGGING}");
    let classes = format!("{}/*", kafka_directory().display());
    let mut all = vec!["-Xmx256m", "-XX:+UseSerialGC", &logging, "-cp", &classes];
    all.extend(arguments);
    Program::new(name, PathBuf::from("java"), &all, settings.to_path_buf())
}

#[expect(clippy::disallowed_methods, reason = "the test servers are named by the environment")]
fn kafka_directory() -> PathBuf {
    let named = std::env::var_os("PORTOLAN_KAFKA_DIR").map(PathBuf::from);
    named.expect("PORTOLAN_KAFKA_DIR is not set: `make test` fetches Kafka and sets it")
}
