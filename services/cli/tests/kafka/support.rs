#![expect(clippy::unwrap_used, reason = "a test's preparations must succeed")]

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use portolan_kernel::{IdGen as _, RandomIds, SystemClock};
use portolan_testkit::{TestCa, TlsKafka};
use rdkafka::ClientConfig;
use tokio::process::{Child, Command};

const HOUR: Duration = Duration::from_hours(1);

/// Two services and a reader, as the chart describes them to the command.
pub(crate) const PRINCIPALS: &str = r#"
[[principal]]
name = "order"
produce = ["portolan.order.v1", "portolan.dlq.order.v1"]
consume = ["portolan.order.v1", "portolan.inventory.v1", "portolan.payment.v1"]
groups = ["portolan.order"]

[[principal]]
name = "payment"
produce = ["portolan.payment.v1", "portolan.dlq.payment.v1"]
consume = ["portolan.order.v1", "portolan.inventory.v1"]
groups = ["portolan.payment"]

[[principal]]
name = "audit"
consume = ["portolan.order.v1"]
groups = ["portolan-audit"]
"#;

/// A directory of one test's own.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let name = format!("portolan-configure-{}", RandomIds(SystemClock).next().simple());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Starts the command with this configuration.
    pub(crate) fn start(&self, config: &str) -> Child {
        let config = self.write("kafka.toml", config);
        Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["kafka-configure", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, config: &str) -> Run {
        Run::of(self.start(config).wait_with_output().await.unwrap())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How the command ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What it said last, having done its work.
    pub(crate) fn summary(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out.lines().last().unwrap()
    }
}

/// A broker, those who trust it, and the command's files.
pub(crate) struct Cluster {
    pub(crate) ca: TestCa,
    pub(crate) kafka: TlsKafka,
    pub(crate) directory: Directory,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let (ca, directory) = (TestCa::new(), Directory::new());
        let kafka = TlsKafka::start(&ca).await;
        directory.write("roots.pem", &ca.roots());
        // As the broker's own: without an issuer between it and the root.
        directory.write("tls.pem", &ca.server("kafka", &["localhost"]));
        Self { ca, kafka, directory }
    }

    /// A configuration for three partitions and these principals.
    pub(crate) fn config(&self, principals: &str) -> String {
        let file = |name| self.directory.0.join(name).display().to_string();
        format!(
            "brokers = '{}'\ntls_identity = '{}'\ntls_roots = '{}'\npartitions = 3\n{principals}",
            self.kafka.address(),
            file("tls.pem"),
            file("roots.pem"),
        )
    }

    pub(crate) async fn configure(&self, principals: &str) -> Run {
        self.directory.run(&self.config(principals)).await
    }

    /// The settings of a client with the certificate of `name`.
    pub(crate) fn client(&self, name: &str) -> ClientConfig {
        self.kafka.client(&self.ca.roots(), &self.ca.client(name, HOUR))
    }

    /// The same as files: certificate with key, and roots.
    pub(crate) fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        let identity = self.ca.client(name, HOUR);
        let identity = self.directory.write(&format!("{name}.pem"), &identity);
        (identity, self.directory.0.join("roots.pem"))
    }
}
