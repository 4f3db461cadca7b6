use std::{path::Path, process::ExitCode};

use super::{
    process::Memory,
    record::{HostRecord, Phase, State},
    state::StateDir,
};
use crate::out::{self, Screen};

/// Prints the table of what runs; exit code 1 if not everything does.
///
/// # Errors
/// The record of the installation cannot be read.
pub(crate) fn status(state: &Path, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = StateDir::at(state)?;
    let Some(record) = state.running()? else {
        out::line("not running");
        return Ok(ExitCode::FAILURE);
    };
    table(&record, screen);
    let all_ready =
        record.phase == Phase::Ready && record.rows.iter().all(|row| row.state == State::Ready);
    Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints name, state, port, process id and memory of everything.
pub(crate) fn table(record: &HostRecord, screen: Screen) {
    let memory = Memory::survey();
    let header = format!("{:<16}{:<24}{:>6}{:>10}{:>12}", "name", "state", "port", "pid", "memory");
    out::line(&screen.paint("1", &header));
    for row in &record.rows {
        let state = match row.restarts {
            0 => row.state.name().to_owned(),
            1 => format!("{} (1 restart)", row.state.name()),
            n => format!("{} ({n} restarts)", row.state.name()),
        };
        let colour = match row.state {
            State::Ready => "32",
            State::Starting | State::Unready | State::Restarting => "33",
            State::Stopped => "31",
        };
        let pid = row.process.as_ref().map(|process| process.pid);
        let used = pid.and_then(|pid| memory.of_tree(pid));
        out::line(&format!(
            "{:<16}{}{:>6}{:>10}{:>12}",
            row.name,
            screen.paint(colour, &format!("{state:<24}")),
            row.port,
            pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            used.map_or_else(|| "-".to_owned(), mebibytes),
        ));
    }
}

/// KiB as MiB with one decimal.
fn mebibytes(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::mebibytes;

    #[test]
    fn memory_is_shown_in_mebibytes() {
        assert_eq!(mebibytes(1024), "1.0 MiB");
        assert_eq!(mebibytes(1535), "1.4 MiB");
    }
}
