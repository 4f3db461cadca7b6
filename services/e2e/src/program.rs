use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use portolan_testkit::eventually;

/// How many lines of a log are shown when a test fails.
const SHOWN: usize = 60;

/// The path of one of our programs, beside the directory of this test.
/// It was not built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let directory = test.parent().and_then(Path::parent).expect("a target directory");
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is missing: build the programs first (cargo build --workspace --bins)",
        path.display()
    );
    path
}

/// A process with a configuration file and a log file; killed at the end.
#[derive(Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<String>,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// How a program that ran to its end ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output and standard error.
    pub output: String,
}

impl Program {
    /// The program `path` with the configuration file `config`, not yet started. Its log is
    /// `<name>.log` beside the configuration.
    pub fn new(name: &str, path: PathBuf, arguments: &[&str], config: PathBuf) -> Self {
        let log = config.with_file_name(format!("{name}.log"));
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { name: name.to_owned(), path, arguments, config, log, child: None }
    }

    /// Starts it; what it writes is appended to its log.
    /// It is running, or cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} is running", self.name);
        let out = self.open_log();
        let errors = out.try_clone().expect("a second handle of the log");
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .env("PORTOLAN_CONFIG", &self.config)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn();
        self.child =
            Some(child.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name)));
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file")
    }

    /// Runs it to its end, for at most `patience`.
    /// It does not end.
    pub async fn run(mut self, patience: Duration) -> Run {
        self.start();
        let code = self.ended(patience).await.code();
        Run { code, output: self.log() }
    }

    /// Waits until it ends by itself.
    /// It does not within `patience`, or was not started.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(patience, &what, async || self.try_ended()).await
    }

    /// How it ended by itself, if it has.
    /// It was not started.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("a started program");
        let status = child.try_wait().expect("the state of a child")?;
        self.child = None;
        Some(status)
    }

    /// Ends it as a crash of the machine would: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal.
    /// It is not running.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("a started program").id();
        let pid = Pid::from_raw(i32::try_from(id).expect("a process id"));
        kill(pid, signal).expect("a signal can be sent");
    }

    /// Whether it ended without being told to.
    pub fn has_died(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The end of its log, under its name.
    pub fn log_end(&self) -> String {
        let log = self.log();
        // Waiting for an order asks the gateway many times.
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("status=200")).collect();
        let end = &lines[lines.len().saturating_sub(SHOWN)..];
        format!("---- {} ----\n{}\n", self.name, end.join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
