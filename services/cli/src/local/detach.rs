use std::{
    ffi::OsString,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{signal::ctrl_c, time::sleep};

use super::{
    record::{HostRecord, Phase},
    state::StateDir,
    status::table,
    up::greet,
};
use crate::out::{self, Screen};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Starts this program again in the background and waits until everything is ready.
///
/// # Errors
/// The background process ended before: with its reason. Or one runs already that is to be reset or
/// is stopping.
pub(crate) async fn detach(
    state: &StateDir,
    reset: bool,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    if let Some(record) = state.running()? {
        if reset {
            return Err(state.taken());
        }
        return join(state, record, screen).await;
    }
    state.create()?;
    let log = state.host_log();
    let mut child = spawn(&log)?;
    let pid = i32::try_from(child.id()).context("a process number out of range")?;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("{} (everything it said is in {})", reason(&log, status.code()), log.display());
        }
        let record = state.running()?.filter(|record| record.host.pid == pid);
        if let Some(record) = record.filter(|record| record.phase == Phase::Ready) {
            table(&record, screen);
            greet(&record, state)?;
            out::line(&format!("It runs in the background; its log is {}.", log.display()));
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            _ = ctrl_c() => return give_up(&mut child, pid),
        }
    }
}

/// Waits until an installation that somebody else has started is ready.
async fn join(
    state: &StateDir,
    mut record: HostRecord,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let host = record.host.clone();
    loop {
        match record.phase {
            Phase::Ready => {
                out::line("already running");
                table(&record, screen);
                return Ok(ExitCode::SUCCESS);
            }
            Phase::Stopping => {
                bail!("{} is being stopped; start it again when it is", state.root().display())
            }
            Phase::Starting => {}
        }
        tokio::select! {
            () = sleep(LOOK_AGAIN) => {}
            _ = ctrl_c() => return Ok(ExitCode::from(130)),
        }
        record = state.running()?.filter(|now| now.host == host).with_context(|| {
            format!("{} was starting, and ended before it was ready", state.root().display())
        })?;
    }
}

fn spawn(log: &Path) -> anyhow::Result<Child> {
    let output =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(log)?;
    let args = std::env::args_os().skip(1).filter(|arg| arg != "--detach" && arg != "-d");
    Command::new(std::env::current_exe()?)
        .args(args.chain([OsString::from("--daemon")]))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start in the background")
}

fn give_up(child: &mut Child, pid: i32) -> anyhow::Result<ExitCode> {
    out::error("stopping");
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    child.wait()?;
    Ok(ExitCode::from(130))
}

/// The line in which the background process said why it ended.
fn reason(log: &Path, code: Option<i32>) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let said = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
    said.map_or_else(|| format!("ended with exit code {code:?}"), str::to_owned)
}
