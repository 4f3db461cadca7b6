//! What the supervisor tells others about itself: `host.json` in the state directory.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{process::Identity, state::write_private};

/// Where the installation as a whole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Starting,
    Ready,
    Stopping,
}

/// Where one process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Runs, and has not yet been ready since it was started.
    Starting,
    /// Runs and answers.
    Ready,
    /// Runs, was ready, and is not now.
    Unready,
    /// Died; the next start waits for its turn.
    Restarting,
    Stopped,
}

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// One supervised process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub name: String,
    pub state: State,
    pub port: u16,
    pub process: Option<Identity>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_exit: Option<String>,
}

/// The whole installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    /// The supervisor.
    pub host: Identity,
    pub phase: Phase,
    /// Where orders are placed: one address for each replica of the gateway.
    pub gateways: Vec<String>,
    /// Where the catalogue is loaded.
    pub inventory: String,
    /// Where payments are shown.
    pub payment: String,
    /// How long the services' certificates are valid, in seconds, if they have any.
    #[serde(default)]
    pub leaf_ttl_secs: Option<u64>,
    /// In the order of their starting.
    pub rows: Vec<Row>,
}

impl HostRecord {
    /// The record of the last supervisor, whether or not it is still there.
    ///
    /// # Errors
    /// There is one that cannot be read.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        };
        let record = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a record of `portolan up`", file.display()))?;
        Ok(Some(record))
    }

    /// Replaces the file in one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        write_private(file, &serde_json::to_vec_pretty(self)?)
    }
}
