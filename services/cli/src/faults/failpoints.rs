//! Every place where a program can be made to end, and how one is armed; `failpoint!` in
//! `portolan-runtime` says how that works.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What every service has that consumes and produces events.
const SHARED: [&str; 8] = [
    "consumer:before-commit",
    "consumer:after-commit",
    "consumer:before-offsets",
    "consumer:after-offsets",
    "relay:before-produce",
    "relay:after-acknowledgement",
    "relay:before-commit",
    "relay:after-commit",
];
const DEAD_LETTERS: [&str; 2] = ["dead-letter:before-commit", "dead-letter:after-commit"];
const ORDER: [&str; 6] = [
    "place:before-commit",
    "place:after-commit",
    "cancel:before-commit",
    "cancel:after-commit",
    "sweep:before-commit",
    "sweep:after-commit",
];
const PAYMENT: [&str; 5] = [
    "claim:after-commit",
    "provider:before-call",
    "provider:after-call",
    "settle:before-commit",
    "settle:after-commit",
];
const NOTIFICATION: [&str; 4] =
    ["mail:before-send", "mail:after-send", "sent:before-commit", "sent:after-commit"];
const PROVIDER: [&str; 2] = ["decide:before-commit", "decide:after-commit"];

/// One place in one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failpoint {
    pub(super) program: &'static str,
    pub(super) name: &'static str,
}

/// All of them.
pub(super) fn all() -> Vec<Failpoint> {
    let with_events = ["order", "inventory", "payment", "notification"];
    let shared = with_events
        .into_iter()
        .flat_map(|program| SHARED.into_iter().map(move |name| Failpoint { program, name }));
    let of = |program, names: &'static [&'static str]| {
        names.iter().map(move |name| Failpoint { program, name })
    };
    shared
        .chain(of("inventory", &DEAD_LETTERS))
        .chain(of("order", &ORDER))
        .chain(of("payment", &PAYMENT))
        .chain(of("notification", &NOTIFICATION))
        .chain(of("psp", &PROVIDER))
        .collect()
}

impl Failpoint {
    pub(super) fn label(self) -> String {
        format!("{} {}", self.program, self.name)
    }

    /// The next process that comes here ends.
    pub(super) fn arm(self, directory: &Path) -> anyhow::Result<()> {
        Ok(fs::write(self.file(directory), [])?)
    }

    /// Whether nobody has come here yet.
    pub(super) fn armed(self, directory: &Path) -> bool {
        self.file(directory).exists()
    }

    /// Nobody ends here any more; whether somebody did.
    pub(super) fn disarm(self, directory: &Path) -> anyhow::Result<bool> {
        let hit = self.hit(directory);
        if hit.exists() {
            fs::remove_file(hit)?;
            return Ok(true);
        }
        // Whoever takes it in this moment has been hit, too.
        Ok(fs::remove_file(self.file(directory)).is_err())
    }

    fn file(self, directory: &Path) -> PathBuf {
        directory.join(format!("portolan-{}.{}", self.program, self.name))
    }

    fn hit(self, directory: &Path) -> PathBuf {
        directory.join(format!("portolan-{}.{}.hit", self.program, self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sources(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let mut parts = text.split("failpoint!(\"");
                parts.next();
                found.extend(parts.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn the_list_has_every_place_of_the_sources_and_no_other() {
        let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut found = BTreeSet::new();
        for crates in ["order", "inventory", "payment", "notification", "shared/messaging"] {
            sources(&services.join(crates).join("src"), &mut found);
        }
        let listed: BTreeSet<String> = all().iter().map(|point| point.name.to_owned()).collect();
        assert_eq!(found, listed);
    }
}
