use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::watch;

/// Whether the process should get requests, as the sum of named checks. Clones share everything.
#[derive(Clone, Debug)]
pub struct Readiness {
    checks: Arc<Mutex<BTreeMap<&'static str, Entry>>>,
    ready: Arc<watch::Sender<bool>>,
}

#[derive(Clone, Debug)]
struct Entry {
    required: bool,
    failure: Option<String>,
}

/// The sum of all checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every check holds.
    Ready,
    /// Every required check holds: requests are served, but something is missing.
    Degraded,
    /// A required check fails.
    Unready,
}

/// What `/readyz` says.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The sum.
    pub status: Status,
    /// Every check by name.
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// One check of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum CheckReport {
    /// It holds.
    Ok,
    /// It does not.
    Failed {
        /// Why, for an operator.
        reason: String,
    },
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// No checks: ready.
    pub fn new() -> Self {
        Self { checks: Arc::default(), ready: Arc::new(watch::Sender::new(true)) }
    }

    /// Adds a check, which fails as "starting" until it is told otherwise. A check that is not
    /// required makes the process degraded, not unready. Registering a name again starts it anew.
    pub fn register(&self, name: &'static str, required: bool) -> Check {
        let entry = Entry { required, failure: Some("starting".to_owned()) };
        self.lock().insert(name, entry);
        self.publish();
        Check { name, readiness: self.clone() }
    }

    /// The state of every check and their sum.
    pub fn report(&self) -> Report {
        let checks = self.lock();
        let status = if checks.values().any(|entry| entry.required && entry.failure.is_some()) {
            Status::Unready
        } else if checks.values().any(|entry| entry.failure.is_some()) {
            Status::Degraded
        } else {
            Status::Ready
        };
        let checks = checks.iter().map(|(name, entry)| (*name, entry.report())).collect();
        Report { status, checks }
    }

    /// Changes whenever requests should begin or cease to come.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) {
        let ready = self.report().status != Status::Unready;
        self.ready.send_if_modified(|old| std::mem::replace(old, ready) != ready);
    }
}

impl Entry {
    fn report(&self) -> CheckReport {
        match &self.failure {
            None => CheckReport::Ok,
            Some(reason) => CheckReport::Failed { reason: reason.clone() },
        }
    }
}

/// One named condition of readiness. Clones report to the same place.
#[derive(Clone, Debug)]
pub struct Check {
    name: &'static str,
    readiness: Readiness,
}

impl Check {
    /// It holds.
    pub fn ok(&self) {
        self.set(None);
    }

    /// It does not hold; `reason` is for an operator and must not contain secrets.
    pub fn fail(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, failure: Option<String>) {
        let up = if failure.is_none() { 1.0 } else { 0.0 };
        metrics::gauge!("portolan_check_up", "check" => self.name).set(up);
        let mut checks = self.readiness.lock();
        let Some(entry) = checks.get_mut(self.name) else { return };
        match (&entry.failure, &failure) {
            (None, Some(reason)) => tracing::warn!(check = self.name, reason, "check fails"),
            (Some(_), None) => tracing::info!(check = self.name, "check holds"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        entry.failure = failure;
        drop(checks);
        self.readiness.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_starts_as_failing() {
        let readiness = Readiness::new();
        let check = readiness.register("database", true);
        assert_eq!(readiness.report().status, Status::Unready);
        check.ok();
        assert_eq!(readiness.report().status, Status::Ready);
    }

    #[test]
    fn only_required_checks_make_it_unready() {
        let readiness = Readiness::new();
        let (database, kafka) =
            (readiness.register("database", true), readiness.register("kafka", false));
        database.ok();
        assert_eq!(readiness.report().status, Status::Degraded);
        kafka.ok();
        assert_eq!(readiness.report().status, Status::Ready);
        database.fail("gone");
        assert_eq!(readiness.report().status, Status::Unready);
    }

    #[test]
    fn watchers_see_changes_of_the_sum_only() {
        let readiness = Readiness::new();
        let (database, kafka) =
            (readiness.register("database", true), readiness.register("kafka", false));
        let mut watch = readiness.watch();
        assert!(!*watch.borrow_and_update());
        kafka.ok();
        assert!(!watch.has_changed().unwrap());
        database.ok();
        assert!(*watch.borrow_and_update());
    }
}
