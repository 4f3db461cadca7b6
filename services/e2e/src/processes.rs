//! The processes of a shop: started, stopped, hurt and looked at.

use std::{
    process::ExitStatus,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::sys::signal::Signal;
use portolan_testkit::{PATIENCE, eventually};
use serde_json::Value;

use crate::{Program, Service, Shop, config::Ports};

/// One process of the shop.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) ports: Ports,
    program: Mutex<Program>,
}

impl Replica {
    pub(crate) fn new(ports: Ports, program: Program) -> Self {
        Self { ports, program: Mutex::new(program) }
    }

    pub(crate) fn program(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shop {
    pub(crate) fn replica(&self, service: Service, index: usize) -> &Replica {
        self.replicas
            .get(&(service, index))
            .unwrap_or_else(|| panic!("there is no {}-{index}", service.name()))
    }

    /// Where a process serves, for instance `http://127.0.0.1:12345`.
    pub fn url(&self, service: Service, index: usize) -> String {
        self.replica(service, index).ports.url()
    }

    /// How many processes of each service there are.
    pub const fn replicas(&self) -> usize {
        self.options.replicas
    }

    /// Ends a process as a crash would.
    pub fn kill(&self, service: Service, index: usize) {
        self.replica(service, index).program().kill();
    }

    /// Starts a process again.
    pub fn start(&self, service: Service, index: usize) {
        self.replica(service, index).program().start();
    }

    /// Starts a process again and waits until it is ready.
    pub async fn restart(&self, service: Service, index: usize) {
        self.start(service, index);
        self.ready(service, index).await;
    }

    /// Tells a process to stop, as an orchestrator does.
    pub fn terminate(&self, service: Service, index: usize) {
        self.replica(service, index).program().signal(Signal::SIGTERM);
    }

    /// Waits until a process has ended; how it did.
    pub async fn ended(&self, service: Service, index: usize) -> ExitStatus {
        let what = format!("{}-{index} ends", service.name());
        eventually(PATIENCE, &what, async || self.replica(service, index).program().try_ended())
            .await
    }

    /// Makes a process stand still.
    pub fn freeze(&self, service: Service, index: usize) {
        self.replica(service, index).program().signal(Signal::SIGSTOP);
    }

    /// Lets a process go on.
    pub fn thaw(&self, service: Service, index: usize) {
        self.replica(service, index).program().signal(Signal::SIGCONT);
    }

    /// What `/readyz` of a process says, with its HTTP status; none when it does not answer.
    pub async fn readiness(&self, service: Service, index: usize) -> Option<(u16, Value)> {
        let url = format!("{}/readyz", self.replica(service, index).ports.admin_url());
        let answer = self.http.get(url).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// The value of a series at `/metrics` of a process, named with its labels; 0 before there is
    /// one.
    pub async fn metric(&self, service: Service, index: usize, series: &str) -> f64 {
        let url = format!("{}/metrics", self.replica(service, index).ports.admin_url());
        let answer = self.http.get(url).send().await.expect("an answer of the admin port");
        let text = answer.text().await.expect("the metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until `/readyz` of a process has this status; returns the document.
    pub async fn ready_is(&self, service: Service, index: usize, status: u16) -> Value {
        let what = format!("{}-{index} answers {status} on /readyz", service.name());
        eventually(PATIENCE, &what, async || {
            assert!(!self.replica(service, index).program().has_died(), "while waiting: {what}");
            self.readiness(service, index).await.filter(|(found, _)| *found == status)
        })
        .await
        .1
    }

    /// Waits until a process is ready.
    pub async fn ready(&self, service: Service, index: usize) {
        self.ready_is(service, index, 200).await;
    }
}
