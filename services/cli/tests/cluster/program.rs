//! Programs: ours, and those that run beside a test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use portolan_testkit::PATIENCE;

/// A directory of its own for one test, removed at the end.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("portolan-cluster-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and says where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A path as a string in a configuration file.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// `portolan command --config file more...`
pub(crate) fn portolan(command: &str, config: &Path, more: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_portolan"));
    program.arg(command).arg("--config").arg(config).args(more);
    program
}

/// What a program that succeeds says on standard output.
pub(crate) fn succeed(mut program: Command) -> String {
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a program that fails says on standard error.
pub(crate) fn fail(mut program: Command) -> String {
    let output = program.output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    String::from_utf8(output.stderr).unwrap()
}

fn said(output: &Output) -> String {
    [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat()
}

/// A program that runs until it is told to end, or dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Running {
    /// Everything that it says goes to the log, and nothing else is in there.
    pub(crate) fn start(mut program: Command, log: &Path) -> Self {
        let out = File::create(log).unwrap();
        let error = out.try_clone().unwrap();
        let child = program.stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap();
        Self { child, log: log.to_owned() }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has said something.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it has ended without {text:?}: {}", self.said());
            assert!(Instant::now() < end, "{text:?} was not said: {}", self.said());
            sleep(Duration::from_millis(20));
        }
    }

    /// Tells it to end and waits for that; how long it took.
    pub(crate) fn end(mut self, signal: Signal) -> Duration {
        let begun = Instant::now();
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        self.child.wait().unwrap();
        begun.elapsed()
    }

    /// Ends it without asking, as a crash would.
    pub(crate) fn crash(self) {
        self.end(Signal::SIGKILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(20));
    }
}
