//! Telling our processes from others, and their memory.

use std::{collections::HashMap, fs, process::Command};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// A process for as long as it lives: its number alone may be another's tomorrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub pid: i32,
    /// When it started, in the words of the operating system; only equality means anything.
    started: String,
}

impl Identity {
    /// The live process with this number.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: start_time(pid)? })
    }

    /// Whether it still is that process.
    pub(crate) fn alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends it a signal, if it is alive.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.alive() {
            let _gone: Result<(), Errno> = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends a signal to the process group that it leads, if it is alive.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if self.alive() {
            signal_group(self.pid, signal);
        }
    }
}

/// Sends a signal to a process group of ours.
pub(crate) fn signal_group(leader: i32, signal: Signal) {
    let _gone: Result<(), Errno> = killpg(Pid::from_raw(leader), signal);
}

/// The fields of `/proc/<pid>/stat` after the name, which may itself contain anything.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// proc(5): after the name come state, ppid, ...; the start time in clock ticks since boot is field
/// 22, the 20th of these.
#[cfg(target_os = "linux")]
fn start_time(pid: i32) -> Option<String> {
    let fields = stat(pid)?;
    if fields.first().is_some_and(|state| state == "Z" || state == "X") {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{}/{}", boot.trim(), fields.get(19)?))
}

#[cfg(not(target_os = "linux"))]
fn start_time(pid: i32) -> Option<String> {
    ps(pid, "lstart=")
}

fn ps(pid: i32, column: &str) -> Option<String> {
    let output = Command::new("ps").args(["-o", column, "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Resident memory of processes together with their descendants, in KiB. Memory that several share
/// counts once on Linux (proportional set size).
#[derive(Debug)]
pub(crate) struct Memory {
    children: HashMap<i32, Vec<i32>>,
}

impl Memory {
    /// Looks at all processes once.
    pub(crate) fn survey() -> Self {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Self { children }
    }

    /// What `pid` and all below it use.
    pub(crate) fn of_tree(&self, pid: i32) -> Option<u64> {
        let mut total = resident(pid)?;
        let mut queue = self.children.get(&pid).cloned().unwrap_or_default();
        while let Some(next) = queue.pop() {
            total += resident(next).unwrap_or(0);
            queue.extend(self.children.get(&next).into_iter().flatten());
        }
        Some(total)
    }
}

fn resident(pid: i32) -> Option<u64> {
    let from = |file: &str, key: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        value.split_whitespace().next()?.parse().ok()
    };
    // The first needs the rights to look into the process.
    from("smaps_rollup", "Pss:")
        .or_else(|| from("status", "VmRSS:"))
        .or_else(|| ps(pid, "rss=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends_and_its_number_alone_does_not_identify_it() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = Identity::of(pid).unwrap();
        assert!(identity.alive());
        let stranger = Identity { pid, started: "another time".to_owned() };
        assert!(!stranger.alive());
        stranger.signal(Signal::SIGKILL);
        assert!(child.try_wait().unwrap().is_none(), "a stranger's number must not be signalled");
        identity.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!identity.alive());
    }

    #[test]
    fn memory_counts_descendants() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let survey = Memory::survey();
        let tree = survey.of_tree(own);
        let alone = Memory { children: HashMap::new() }.of_tree(own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.unwrap() > 0 && alone.unwrap() > 0);
        let children = survey.children.get(&own).cloned().unwrap_or_default();
        assert!(children.contains(&i32::try_from(child.id()).unwrap()));
    }
}
