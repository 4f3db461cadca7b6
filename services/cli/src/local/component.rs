use std::{ffi::OsString, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;

use super::probe::Probe;

/// How to start a program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub dir: PathBuf,
}

/// A process that is kept running.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    /// What it is called in logs and in the table.
    pub name: String,
    /// The port that is shown for it.
    pub port: u16,
    pub program: Program,
    /// Asks it to stop.
    pub stop_signal: Signal,
    /// How long it may take to stop.
    pub grace: Duration,
    /// Tells whether it is ready.
    pub probe: Probe,
}

impl Program {
    pub(crate) fn new(path: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), env: Vec::new(), dir: dir.into() }
    }

    pub(crate) fn args<I: IntoIterator<Item = T>, T: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same as a command for the standard library: with no input, and its output for us to
    /// read.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.path);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command
    }
}
