//! Starts processes, keeps them running, and stops them in order.

use std::{
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Child,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    component::Component,
    logs::Logs,
    process::{Identity, signal_group},
    record::{HostRecord, Phase, Row, State},
};

/// The first pause before a start is repeated; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that lived this long has not failed to start.
const LONG_LIFE: Duration = Duration::from_secs(30);
/// So many deaths before it was ever ready mean that it never will be.
const HOPELESS: u32 = 4;
/// How often something that is not ready, and something that is, is asked.
const PROBE_UNREADY: Duration = Duration::from_millis(150);
const PROBE_READY: Duration = Duration::from_secs(3);

/// The record of what runs, in memory and on disk.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    file: PathBuf,
    record: Arc<Mutex<HostRecord>>,
    changes: Arc<watch::Sender<u64>>,
    logs: Logs,
}

impl Board {
    /// # Errors
    /// The record cannot be written.
    pub(crate) fn new(file: PathBuf, record: HostRecord, logs: Logs) -> anyhow::Result<Self> {
        record.write(&file)?;
        let changes = Arc::new(watch::Sender::new(0));
        Ok(Self { file, record: Arc::new(Mutex::new(record)), changes, logs })
    }

    pub(crate) fn snapshot(&self) -> HostRecord {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.change(|record| record.phase = phase);
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut Row)) {
        self.change(|record| {
            if let Some(row) = record.rows.iter_mut().find(|row| row.name == name) {
                change(row);
            }
        });
    }

    /// Writes the record only if it changed.
    fn change(&self, change: impl FnOnce(&mut HostRecord)) {
        let written = {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            let before = record.clone();
            change(&mut record);
            if *record == before {
                return;
            }
            record.write(&self.file)
        };
        if let Err(error) = written {
            self.logs.host(&format!("the record of what runs is out of date: {error:#}"));
        }
        self.changes.send_modify(|version| *version += 1);
    }

    /// Waits until `name` is ready.
    ///
    /// # Errors
    /// It keeps dying, or the time is over: with the last things it said.
    pub(crate) async fn ready(&self, name: &str, patience: Duration) -> anyhow::Result<()> {
        let mut changes = self.changes.subscribe();
        let wait = async {
            loop {
                let row = self.snapshot().rows.into_iter().find(|row| row.name == name);
                match row {
                    Some(row) if row.state == State::Ready => return Ok(()),
                    Some(row) if row.restarts >= HOPELESS => {
                        let how = row.last_exit.unwrap_or_default();
                        bail!("{name} does not start: {how}{}", self.said(name));
                    }
                    _ => changes.changed().await?,
                }
            }
        };
        match timeout(patience, wait).await {
            Ok(result) => result,
            Err(_) => {
                bail!("{name} is not ready after {} s{}", patience.as_secs(), self.said(name))
            }
        }
    }

    fn said(&self, name: &str) -> String {
        let last = self.logs.last(name);
        if last.is_empty() { String::new() } else { format!("; it said: {}", last.join(" / ")) }
    }
}

/// A component under supervision.
#[derive(Debug)]
pub(crate) struct Supervised {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Supervised {
    /// Starts the component. `kill` makes its stopping impatient.
    pub(crate) fn start(
        component: Component,
        board: &Board,
        logs: &Logs,
        kill: &CancellationToken,
    ) -> Self {
        board.change(|record| {
            record.rows.push(Row {
                name: component.name.clone(),
                state: State::Starting,
                port: component.port,
                process: None,
                restarts: 0,
                last_exit: None,
            });
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_readiness(component.clone(), board.clone(), stop.clone()));
        let supervisor = Supervisor {
            component,
            board: board.clone(),
            logs: logs.clone(),
            stop: stop.clone(),
            kill: kill.clone(),
        };
        tasks.spawn(supervisor.run());
        Self { stop, tasks }
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Keeps the component's state on the board up to date.
async fn watch_readiness(component: Component, board: Board, stop: CancellationToken) {
    loop {
        let ready = component.probe.check().await.is_ok();
        board.update(&component.name, |row| {
            row.state = match (row.state, ready) {
                (State::Starting | State::Unready | State::Ready, true) => State::Ready,
                (State::Ready | State::Unready, false) => State::Unready,
                (state @ (State::Starting | State::Restarting | State::Stopped), _) => state,
            };
        });
        let pause = if ready { PROBE_READY } else { PROBE_UNREADY };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

#[derive(Debug)]
struct Supervisor {
    component: Component,
    board: Board,
    logs: Logs,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let Some(how) = self.live().await else { break };
            if started.elapsed() > LONG_LIFE {
                pause = FIRST_PAUSE;
            }
            self.logs.host(&format!(
                "{} {how}; starting it again in {} ms",
                self.component.name,
                pause.as_millis()
            ));
            self.board.update(&self.component.name, |row| {
                row.state = State::Restarting;
                row.process = None;
                row.restarts += 1;
                row.last_exit = Some(how);
            });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.board.update(&self.component.name, |row| {
            row.state = State::Stopped;
            row.process = None;
        });
    }

    /// One life of the process: how it ended, or nothing when it was asked to stop.
    async fn live(&self) -> Option<String> {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return Some(format!("cannot be started: {error:#}")),
        };
        let mut readers = JoinSet::new();
        readers.spawn(copy_lines(
            self.component.name.clone(),
            child.stdout.take(),
            self.logs.clone(),
        ));
        readers.spawn(copy_lines(
            self.component.name.clone(),
            child.stderr.take(),
            self.logs.clone(),
        ));
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let ended = tokio::select! {
            status = child.wait() => Some(match status {
                Ok(status) => describe(status),
                Err(error) => format!("was lost: {error}"),
            }),
            () = self.stop.cancelled() => {
                self.terminate(&mut child, pid).await;
                None
            }
        };
        // What the process started itself must not outlive it.
        if let Some(pid) = pid {
            signal_group(pid, Signal::SIGKILL);
        }
        // The last words are in the pipe; a stray holder of its other end must not keep us.
        let drained = async { while readers.join_next().await.is_some() {} };
        let _late = timeout(Duration::from_secs(1), drained).await;
        ended
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let mut command = self.component.program.command();
        // A group of its own: a Ctrl-C at the terminal reaches the supervisor alone, which stops
        // everything in order.
        command.process_group(0);
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{}", self.component.program.path.display()))?;
        let process = child.id().and_then(|pid| Identity::of(i32::try_from(pid).ok()?));
        self.board.update(&self.component.name, |row| {
            row.state = State::Starting;
            row.process = process;
        });
        Ok(child)
    }

    async fn terminate(&self, child: &mut Child, pid: Option<i32>) {
        let Some(process) = pid.and_then(Identity::of) else { return };
        process.signal(self.component.stop_signal);
        let patience = async {
            tokio::select! {
                () = sleep(self.component.grace) => {}
                () = self.kill.cancelled() => {}
            }
        };
        tokio::select! {
            _ = child.wait() => {}
            () = patience => {
                self.logs.host(&format!("{} does not stop; killing it", self.component.name));
                process.signal_group(Signal::SIGKILL);
                let _ended = child.wait().await;
            }
        }
    }
}

/// Passes on what a process writes, line by line; what is not UTF-8 is replaced.
async fn copy_lines(name: String, pipe: Option<impl AsyncRead + Unpin>, logs: Logs) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        logs.line(&name, String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// Runs a program to its end, passing on what it writes under `name`.
///
/// # Errors
/// It cannot be started, or ends with anything but 0: with the last things it said.
pub(crate) async fn run_once(
    name: &str,
    mut command: std::process::Command,
    logs: &Logs,
) -> anyhow::Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    command.process_group(0);
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let mut readers = JoinSet::new();
    readers.spawn(copy_lines(name.to_owned(), child.stdout.take(), logs.clone()));
    readers.spawn(copy_lines(name.to_owned(), child.stderr.take(), logs.clone()));
    let status = child.wait().await?;
    while readers.join_next().await.is_some() {}
    if !status.success() {
        bail!("{name} {}: {}", describe(status), logs.last(name).join(" / "));
    }
    Ok(())
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {number}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
