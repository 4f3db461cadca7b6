use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{process::Identity, record::HostRecord, state::StateDir};
use crate::out::{self, Screen};

/// The services drain, then the infrastructure stops: each has its own limit well within this.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Stops what `up` started, whether or not its supervisor is still there.
///
/// # Errors
/// The record of the installation cannot be read.
pub(crate) async fn down(state: &Path, _screen: Screen) -> anyhow::Result<ExitCode> {
    let state = StateDir::at(state)?;
    if let Some(record) = state.running()? {
        record.host.signal(Signal::SIGTERM);
        if !gone(std::slice::from_ref(&record.host), PATIENCE).await {
            out::error("the supervisor does not stop; killing it and what it started");
            record.host.signal(Signal::SIGKILL);
            gone(std::slice::from_ref(&record.host), PATIENCE).await;
        }
        sweep(&state).await?;
        out::line("stopped");
    } else if sweep(&state).await? > 0 {
        out::line("stopped what a killed supervisor had left behind");
    } else {
        out::line("not running");
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops the processes that a supervisor left behind when it was killed, and returns how many there
/// were.
///
/// # Errors
/// The record of the installation cannot be read.
pub(crate) async fn sweep(state: &StateDir) -> anyhow::Result<usize> {
    let Some(record) = HostRecord::read(&state.record())? else { return Ok(0) };
    if record.host.alive() {
        return Ok(0);
    }
    let left: Vec<Identity> =
        record.rows.into_iter().filter_map(|row| row.process).filter(Identity::alive).collect();
    // In the reverse order of starting, as a supervisor would; the databases survive either way.
    for process in left.iter().rev() {
        process.signal(Signal::SIGTERM);
    }
    if !gone(&left, Duration::from_secs(10)).await {
        for process in &left {
            process.signal_group(Signal::SIGKILL);
        }
        gone(&left, Duration::from_secs(10)).await;
    }
    Ok(left.len())
}

/// Waits for the end of processes that are not our children.
async fn gone(processes: &[Identity], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while processes.iter().any(Identity::alive) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
    true
}
