//! One Kafka node (broker and controller in one) and the topics.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nix::sys::signal::Signal;

use super::{
    certificates::{KAFKA, Places, pair, text},
    component::{Component, Program},
    edges::Edges,
    logs::Logs,
    ports::loopback,
    probe::Probe,
    programs::Programs,
    services::quoted,
    settings::Settings,
    state::{StateDir, random_bytes, write_private},
    supervisor::run_once,
};

const PROPERTIES: &str = include_str!("../../../../deploy/local/kafka/server.properties");
const TLS_PROPERTIES: &str = include_str!("../../../../deploy/local/kafka/tls.properties");
const LOGGING: &str = include_str!("../../../../deploy/local/kafka/log4j2.yaml");

#[derive(Debug)]
pub(crate) struct Kafka<'a> {
    state: &'a StateDir,
    programs: &'a Programs,
    port: u16,
    /// Where it listens, if that is elsewhere than where it is looked for.
    behind: u16,
    controller_port: u16,
    tls: Option<&'a Places>,
}

impl<'a> Kafka<'a> {
    /// # Errors
    /// A port would be above 65535.
    pub(crate) fn new(
        state: &'a StateDir,
        programs: &'a Programs,
        settings: &Settings,
        tls: Option<&'a Places>,
    ) -> anyhow::Result<Self> {
        let (port, controller_port) = (settings.ports.kafka, settings.ports.kafka_controller);
        let behind = settings.ports.behind(port)?;
        Ok(Self { state, programs, port, behind, controller_port, tls })
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
        fs::write(dir.join("server.properties"), self.properties(&data))?;
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

    fn properties(&self, data: &Path) -> String {
        let mut properties = PROPERTIES.to_owned();
        if self.behind != self.port {
            // The last of two lines counts.
            let told = format!("\nadvertised.listeners=PLAINTEXT://{}\n", self.brokers());
            properties.push_str(&told);
        }
        if let Some((roots, identity)) = pair(self.tls, KAFKA) {
            properties.push_str(TLS_PROPERTIES);
            properties = properties.replace("@ROOTS@", &text(&roots));
            properties = properties.replace("@IDENTITY@", &text(&identity));
        }
        properties
            .replace("@PORT@", &self.behind.to_string())
            .replace("@CONTROLLER_PORT@", &self.controller_port.to_string())
            .replace("@DATA@", &text(data))
    }

    pub(crate) fn component(&self) -> Component {
        Component {
            name: "kafka".to_owned(),
            port: self.behind,
            program: self.java("-Xmx320m").args(["kafka.Kafka", "server.properties"]),
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_secs(20),
            probe: Probe::Connect(self.behind),
        }
    }

    fn java(&self, heap: &str) -> Program {
        Program::new(&self.programs.java, self.state.kafka())
            .args([heap, "-XX:+UseSerialGC", "-Dlog4j2.configurationFile=log4j2.yaml", "-cp"])
            .args([self.programs.kafka_jars.join("*")])
    }

    /// Makes the topics as far as they are missing and, with TLS, says who may use them: as the job
    /// of a cluster does it.
    ///
    /// # Errors
    /// The broker does not answer or refuses.
    pub(crate) async fn configure(&self, logs: &Logs) -> anyhow::Result<()> {
        let file = self.state.config().join("kafka.toml");
        write_private(&file, self.wanted()?.as_bytes())?;
        let configure = Program::new(std::env::current_exe()?, self.state.root()).args([
            "kafka-configure",
            "--config",
            &text(&file),
        ]);
        run_once("kafka-configure", configure.command(), logs).await
    }

    fn wanted(&self) -> anyhow::Result<String> {
        let mut wanted = format!("brokers = \"{}\"\ntimeout_secs = 30\n", self.brokers());
        if let Some((roots, identity)) = pair(self.tls, KAFKA) {
            let (roots, identity) = (quoted(&text(&roots)), quoted(&text(&identity)));
            writeln!(wanted, "tls_roots = {roots}\ntls_identity = {identity}")?;
            wanted.push_str(&Edges::read()?.principals());
        }
        Ok(wanted)
    }
}

/// A cluster id as Kafka writes it. The first bit is cleared, or one id in 64 would begin with a
/// dash and be taken for an option.
fn cluster_id(mut random: [u8; 16]) -> String {
    random[0] &= 0x7f;
    URL_SAFE_NO_PAD.encode(random)
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
