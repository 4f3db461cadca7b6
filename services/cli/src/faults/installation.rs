//! An installation of our own, run by the app host like any other.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    clocks::Clocks,
    kinds::disk,
    mailbox::Mailbox,
    proxy::{Mode, Proxy},
};

use crate::{
    catalogue::{Catalogue, Product},
    local::{HostRecord, Identity, Ports, Row, RowState, Service, StateDir, loopback},
    mesh::Mesh,
    seed,
};

/// What makes a minute long enough: orders that wait for ever end soon, and the provider's late
/// answers come soon.
const SETTINGS: [&str; 5] = [
    "order.orders.deadline_secs=30",
    "payment.psp.timeout_ms=1000",
    "payment.psp.retry_base_ms=100",
    "payment.psp.retry_cap_ms=2000",
    "psp.late_ms=1500",
];
/// Of every service.
const REPLICAS: u16 = 2;
/// How long a network may take to be gone.
const GONE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// From where the services look for what they use to where it is. The network lies in between.
const DETOUR: u16 = 300;

#[derive(Clone, Debug)]
pub(super) struct Installation {
    state: StateDir,
    program: PathBuf,
    networks: Arc<BTreeMap<String, Proxy>>,
    mailbox: Mailbox,
    planted: Arc<Mutex<HashSet<Uuid>>>,
    clocks: Arc<Option<Clocks>>,
}

impl Installation {
    /// Starts one with empty databases and two replicas of every service,
    /// with more in the environment of everything, and with clocks that can be moved.
    ///
    /// # Errors
    /// It does not start: what the app host says.
    pub(super) async fn start(
        state: &Path,
        port_offset: u16,
        environment: &[(&str, &Path)],
        clocks: Option<Clocks>,
    ) -> anyhow::Result<Self> {
        let this = Self {
            state: StateDir::at(state)?,
            program: std::env::current_exe()?,
            networks: Arc::new(networks(port_offset).await?),
            mailbox: Mailbox::open().await?,
            planted: Arc::default(),
            clocks: Arc::new(clocks),
        };
        let mut up = this.command("up");
        up.args(["--detach", "--reset", "--no-seed", "--replicas", &REPLICAS.to_string()]);
        up.args(["--port-offset", &port_offset.to_string(), "--detour", &DETOUR.to_string()]);
        up.args(SETTINGS.iter().flat_map(|setting| ["--set", *setting]));
        up.args(["--set", &format!("notification.smtp.url={}", this.mailbox.url())]);
        up.envs(environment.iter().copied());
        up.envs(this.clocks.iter().flat_map(Clocks::environment));
        let status = up.status().await.context("cannot start the app host")?;
        ensure!(status.success(), "the installation in {} does not start", state.display());
        Ok(this)
    }

    /// A command of ours about this installation.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name).arg("--state").arg(self.state.root());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    pub(super) const fn state(&self) -> &StateDir {
        &self.state
    }

    /// Loads the catalogue, with as many pieces of each product as `quantity` says.
    pub(super) async fn stock(
        &self,
        catalogue: &Catalogue,
        quantity: impl Fn(&Product) -> i64,
    ) -> anyhow::Result<()> {
        let inventory = self.record()?.inventory;
        seed::import(&Mesh::open(None)?, &inventory, catalogue, quantity).await.map(|_| ())
    }

    /// The network between the services and `name`.
    pub(super) fn network(&self, name: &str) -> anyhow::Result<&Proxy> {
        self.networks.get(name).with_context(|| format!("there is no network before {name}"))
    }

    /// Every network carries again.
    pub(super) fn clear_networks(&self) {
        for network in self.networks.values() {
            network.set(Mode::Clear);
        }
    }

    pub(super) fn clocks(&self) -> anyhow::Result<&Clocks> {
        self.clocks.as_ref().as_ref().context("these clocks cannot be moved")
    }

    /// The broker's address, past the network as far as a client that is told another can be.
    pub(super) fn brokers(&self) -> anyhow::Result<String> {
        Ok(loopback(self.row("kafka")?.port).to_string())
    }

    /// Where a small disk is mounted: the server's user must be able to go there, which it is not to
    /// the directory of the installation.
    pub(super) fn disk() -> PathBuf {
        std::env::temp_dir().join(format!("portolan-faults-{}", std::process::id()))
    }

    /// Notes a record that nobody committed.
    pub(super) fn plant(&self, id: Uuid) {
        self.planted.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// The records that nobody committed.
    pub(super) fn planted(&self) -> HashSet<Uuid> {
        self.planted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(&self) -> anyhow::Result<HostRecord> {
        self.state.running()?.context("the app host is gone")
    }

    pub(super) fn row(&self, name: &str) -> anyhow::Result<Row> {
        let row = self.record()?.rows.into_iter().find(|row| row.name == name);
        row.with_context(|| format!("there is no {name}"))
    }

    /// The process that is called `name`, waiting for it if it is just being started again.
    pub(super) async fn process(&self, name: &str) -> anyhow::Result<Identity> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(process) = self.row(name)?.process.filter(Identity::alive) {
                return Ok(process);
            }
            ensure!(Instant::now() < deadline, "{name} does not run");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until everything is ready.
    ///
    /// # Errors
    /// Something is not: what.
    pub(super) async fn ready(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let rows = self.record()?.rows;
            let missing: Vec<String> = rows
                .into_iter()
                .filter(|row| row.state != RowState::Ready)
                .map(|row| format!("{} is {}", row.name, row.state.name()))
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("after {} s {}", patience.as_secs(), missing.join(", "));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Lets go on whatever was stopped.
    pub(super) fn thaw(&self) -> anyhow::Result<()> {
        for row in self.record()?.rows {
            if let Some(process) = row.process {
                process.signal_group(Signal::SIGCONT);
            }
        }
        Ok(())
    }

    /// Stops it; with `forget` nothing of it is left.
    ///
    /// # Errors
    /// It does not stop.
    pub(super) async fn stop(&self, forget: bool) -> anyhow::Result<()> {
        let _gone = self.thaw();
        let status = self.command("down").status().await?;
        ensure!(status.success(), "the installation does not stop");
        disk::unmount(&Self::disk()).await?;
        if forget {
            std::fs::remove_dir_all(self.state.root())?;
        }
        Ok(())
    }
}

/// One network before each thing that the services use, and before each service that others call.
async fn networks(port_offset: u16) -> anyhow::Result<BTreeMap<String, Proxy>> {
    let mut networks = BTreeMap::new();
    for (name, port, behind) in ways(port_offset)? {
        let (from, to) = (loopback(port), loopback(behind));
        let deadline = Instant::now() + GONE;
        let proxy = loop {
            match Proxy::open(from, to).await {
                // That of the last run goes when its tasks have been told.
                Err(_) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
                opened => break opened,
            }
        };
        let proxy = proxy.with_context(|| format!("port {port} ({name}) cannot be used"))?;
        networks.insert(name, proxy);
    }
    Ok(networks)
}

/// What the networks are before, where it is looked for, and where it is.
fn ways(port_offset: u16) -> anyhow::Result<Vec<(String, u16, u16)>> {
    let ports = Ports { detour: DETOUR, ..Ports::default().shifted(port_offset)? };
    let [first, second, third] = ports.redis;
    let mut ways = Vec::new();
    for (name, port) in [
        ("postgres", ports.postgres),
        ("kafka", ports.kafka),
        ("psp", ports.psp),
        ("redis-1", first),
        ("redis-2", second),
        ("redis-3", third),
    ] {
        ways.push((name.to_owned(), port, ports.behind(port)?));
    }
    for service in [Service::Order, Service::Inventory, Service::Payment, Service::Notification] {
        for replica in 0..REPLICAS {
            let port = service.listen(&ports, replica)?.port;
            ways.push((service.label(replica), ports.behind(port)?, port));
        }
    }
    Ok(ways)
}
