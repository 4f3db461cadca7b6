use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use portolan_kernel::{IdGen as _, RandomIds, SystemClock};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{PATIENCE, TestCa, eventually, free_port, server};

const SETTINGS: &str = include_str!("tls_kafka.properties");
/// The broker's own name, which its configuration makes a super user.
const SUPER_USER: &str = "kafka";

/// A Kafka broker of one test's own that speaks TLS 1.3 only, demands certificates, takes the
/// caller's name from the common name, and allows nothing that no access rule allows. Its jars are
/// in the directory named by `PORTOLAN_KAFKA_DIR`.
pub struct TlsKafka {
    directory: PathBuf,
    address: String,
    super_user: ClientConfig,
    process: Option<Child>,
}

impl TlsKafka {
    /// Formats a directory and starts a broker on it.
    pub async fn start(ca: &TestCa) -> Self {
        let unique = RandomIds(SystemClock).next().simple().to_string();
        let directory = std::env::temp_dir().join(format!("portolan-kafka-{unique}"));
        fs::create_dir_all(&directory).expect("a directory for the broker");
        let address = format!("127.0.0.1:{}", free_port());
        let super_user =
            client(&address, &ca.roots(), &ca.client(SUPER_USER, Duration::from_hours(1)));
        let mut kafka = Self { directory, address, super_user, process: None };
        kafka.configure(ca);
        let arguments = ["kafka.tools.StorageTool", "format", "-t", "cG9ydG9sYW4tdGxzLTAwMQ", "-c"];
        let formatted = kafka.java(&arguments).status().expect("java runs");
        assert!(formatted.success(), "Kafka's directory is not formatted:\n{}", kafka.log());
        kafka.run().await;
        kafka
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The settings of a client with these certificates.
    pub fn client(&self, roots: &str, identity: &str) -> ClientConfig {
        client(&self.address, roots, identity)
    }

    /// The settings of a client that may do everything.
    pub fn super_user(&self) -> ClientConfig {
        self.super_user.clone()
    }

    /// Makes topics as the super user.
    pub async fn create_topics(&self, names: &[String], partitions: i32) {
        let admin: AdminClient<DefaultClientContext> =
            self.super_user.create().expect("an admin client");
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)))
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let created = admin.create_topics(&topics, &options).await.expect("an answer");
        for topic in created {
            topic.expect("a new topic");
        }
    }

    /// Takes it away without warning.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it with everything that it had stored, and waits until it answers.
    pub async fn run(&mut self) {
        self.process = Some(self.java(&["kafka.Kafka"]).spawn().expect("java starts"));
        eventually(PATIENCE, "the test's own broker answers", async || {
            let client: BaseConsumer = self.super_user.create().ok()?;
            let asked = tokio::task::spawn_blocking(move || {
                client.fetch_metadata(None, Duration::from_secs(2)).is_ok()
            });
            asked.await.ok()?.then_some(())
        })
        .await;
    }

    fn configure(&self, ca: &TestCa) {
        let (_, port) = self.address.rsplit_once(':').expect("a port");
        let settings = SETTINGS
            .replace("@PORT@", port)
            .replace("@CONTROLLER_PORT@", &free_port().to_string())
            .replace("@DIRECTORY@", &self.directory.display().to_string());
        let bundle = ca.server(SUPER_USER, &["localhost", "127.0.0.1"]);
        for (name, content) in
            [("server.properties", settings), ("broker.pem", bundle), ("roots.pem", ca.roots())]
        {
            fs::write(self.directory.join(name), content).expect("a file of the broker");
        }
    }

    /// A Java program of Kafka whose last argument is the configuration.
    fn java(&self, arguments: &[&str]) -> Command {
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.expect("the broker's log");
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-XX:+UseSerialGC", "-cp"])
            .arg(Path::new(&server("PORTOLAN_KAFKA_DIR")).join("*"))
            .args(arguments)
            .arg(self.directory.join("server.properties"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log);
        java
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("kafka.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl std::fmt::Debug for TlsKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsKafka").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for TlsKafka {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn client(address: &str, roots: &str, identity: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("log_level", "2")
        .set("security.protocol", "ssl")
        .set("ssl.ca.pem", roots)
        .set("ssl.certificate.pem", identity)
        .set("ssl.key.pem", identity);
    config
}
