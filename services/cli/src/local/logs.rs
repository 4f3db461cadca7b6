//! One stream of everything that the processes say, and a file for each.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::out::{self, Screen};

/// How many lines are remembered for the report of a failure.
const REMEMBERED: usize = 6;
/// A log file that is longer, in bytes, is set aside at the next start.
const ROTATE_AT: u64 = 16 * 1024 * 1024;
/// ANSI SGR codes that are readable on dark and on light ground.
const COLOURS: [&str; 10] = ["36", "32", "33", "35", "34", "96", "92", "93", "95", "94"];
/// The widest name, so that the lines align.
const WIDTH: usize = 14;

#[derive(Debug, Default)]
struct Source {
    file: Option<File>,
    last: VecDeque<String>,
    colour: usize,
}

/// Where all lines go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    screen: Screen,
    dir: PathBuf,
    sources: Arc<Mutex<HashMap<String, Source>>>,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf, screen: Screen) -> Self {
        Self { screen, dir, sources: Arc::default() }
    }

    /// A line of the supervisor itself.
    pub(crate) fn host(&self, text: &str) {
        let name = format!("{:WIDTH$}", "portolan");
        out::line(&format!("{} | {text}", self.screen.paint("1", &name)));
    }

    /// A line that the process `name` wrote.
    pub(crate) fn line(&self, name: &str, text: &str) {
        let colour = self.keep(name, text);
        let prefix = format!("{name:WIDTH$}");
        let code = COLOURS.get(colour % COLOURS.len()).copied().unwrap_or("36");
        // Their own colours mean nothing in a file.
        let text = if self.screen.colour { text.to_owned() } else { strip_escapes(text) };
        out::line(&format!("{} | {text}", self.screen.paint(code, &prefix)));
    }

    /// The last things that the process `name` wrote.
    pub(crate) fn last(&self, name: &str) -> Vec<String> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(name).map(|source| source.last.iter().cloned().collect()).unwrap_or_default()
    }

    fn keep(&self, name: &str, text: &str) -> usize {
        let text = strip_escapes(text);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let colour = sources.len();
        let source = sources.entry(name.to_owned()).or_insert_with(|| Source {
            file: self.open(name),
            last: VecDeque::new(),
            colour,
        });
        if let Some(file) = &mut source.file {
            // A full disk must not stop the shop.
            let _lost = writeln!(file, "{text}");
        }
        if source.last.len() == REMEMBERED {
            source.last.pop_front();
        }
        source.last.push_back(text);
        source.colour
    }

    fn open(&self, name: &str) -> Option<File> {
        let path = self.dir.join(format!("{name}.log"));
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > ROTATE_AT) {
            let _kept = fs::rename(&path, self.dir.join(format!("{name}.log.1")));
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok()
    }
}

/// The text without ANSI control sequences (ECMA-48 5.4: ESC `[`, parameters, a final byte from `@`
/// to `~`).
fn strip_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = match after.find(|c: char| ('@'..='~').contains(&c)) {
            Some(end) => after.get(end + 1..).unwrap_or_default(),
            None => "",
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_the_services_do_not_reach_a_file() {
        assert_eq!(
            strip_escapes("\x1b[2m12:00\x1b[0m \x1b[32mINFO\x1b[0m ready"),
            "12:00 INFO ready"
        );
        assert_eq!(strip_escapes("plain [text]"), "plain [text]");
        assert_eq!(strip_escapes("cut \x1b[3"), "cut ");
    }
}
