use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use nix::unistd::{geteuid, setsid};
use portolan_runtime::{Tasks, Tls};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    args::UpArgs,
    certificates::{Certificates, HOST, Places, SEED},
    component::Component,
    detach::detach,
    edges::Edges,
    kafka::Kafka,
    logs::Logs,
    ports::check_free,
    postgres::Postgres,
    process::Identity,
    programs::Programs,
    record::{HostRecord, Phase},
    redis,
    services::{DEMO_USERS, Service, Wiring, address, demo_password},
    settings::Settings,
    state::{Lock, StateDir},
    status::table,
    stop::sweep,
    supervisor::{Board, Supervised, run_once},
};
use crate::{
    mesh::Mesh,
    out::{self, Screen},
    seed,
};

/// How long anything may take to become ready.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long what is left of a killed process is waited for.
const REMAINS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Pieces of every product in a new shop: more than a whole year of the data set takes of any.
const OPENING_STOCK: i64 = seed::DEFAULT_QUANTITY;

/// Runs the installation until it is told to stop.
///
/// # Errors
/// Something is missing, a port is taken, or something does not start: nothing is left running.
pub(crate) async fn up(args: UpArgs, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = StateDir::at(&args.state.state)?;
    if args.detach && !args.daemon {
        return detach(&state, args.reset, screen).await;
    }
    if args.daemon {
        setsid().context("cannot leave the terminal")?;
    }
    let settings = Settings::load(&args)?;
    let programs = Programs::find(&args, geteuid().is_root())?;
    state.create()?;
    let _lock = lock(&state).await?;
    let left = sweep(&state).await?;
    let wanted = settings.wanted_ports()?;
    if left > 0 {
        settle(&wanted).await;
    }
    check_free(&wanted)?;
    if args.reset {
        state.clear()?;
        state.create()?;
    }
    let logs = Logs::new(state.logs(), screen);
    if left > 0 {
        logs.host(&format!("stopped {left} processes that a killed supervisor had left behind"));
    }
    Host::new(&state, &settings, &programs, logs, screen)?.run().await
}

/// Takes the directory. The lock of a supervisor that was killed is released with its last thread, a
/// moment after it has stopped being seen.
async fn lock(state: &StateDir) -> anyhow::Result<Lock> {
    let deadline = Instant::now() + REMAINS;
    loop {
        match state.lock() {
            Err(_) if state.running()?.is_none() && Instant::now() < deadline => {
                sleep(LOOK_AGAIN).await;
            }
            locked => return locked,
        }
    }
}

/// Gives the ports of processes that have just ended a moment: the system takes the last thread's
/// sockets away after the process has stopped being seen.
async fn settle(wanted: &[(u16, String)]) {
    let deadline = Instant::now() + REMAINS;
    while check_free(wanted).is_err() && Instant::now() < deadline {
        sleep(LOOK_AGAIN).await;
    }
}

#[derive(Debug)]
struct Host<'a> {
    state: &'a StateDir,
    settings: &'a Settings,
    programs: &'a Programs,
    logs: Logs,
    screen: Screen,
    board: Board,
    /// What is stopped together, in the order of starting.
    stages: Vec<Vec<Supervised>>,
    /// Stop without further patience.
    kill: CancellationToken,
    /// What reads our own certificate again.
    tasks: Tasks,
    /// What writes everybody's certificates anew; ends when this is dropped.
    renewal: JoinSet<()>,
}

impl<'a> Host<'a> {
    fn new(
        state: &'a StateDir,
        settings: &'a Settings,
        programs: &'a Programs,
        logs: Logs,
        screen: Screen,
    ) -> anyhow::Result<Self> {
        let own = i32::try_from(std::process::id())?;
        let secure = settings.leaf_ttl.is_some();
        let url = |service: Service, replica| {
            let listen = service.listen(&settings.ports, replica)?;
            // Customers have no certificates.
            anyhow::Ok(address(listen.port, secure && service != Service::Gateway))
        };
        let record = HostRecord {
            host: Identity::of(own).context("this process cannot be found")?,
            phase: Phase::Starting,
            gateways: (0..settings.replicas)
                .map(|n| url(Service::Gateway, n))
                .collect::<Result<_, _>>()?,
            inventory: url(Service::Inventory, 0)?,
            payment: url(Service::Payment, 0)?,
            leaf_ttl_secs: settings.leaf_ttl.map(|ttl| ttl.as_secs()),
            rows: Vec::new(),
        };
        let board = Board::new(state.record(), record, logs.clone())?;
        let kill = CancellationToken::new();
        let (stages, tasks, renewal) = (Vec::new(), Tasks::new(), JoinSet::new());
        Ok(Self { state, settings, programs, logs, screen, board, stages, kill, tasks, renewal })
    }

    async fn run(mut self) -> anyhow::Result<ExitCode> {
        let mut stop = StopSignals::new()?;
        let started = tokio::select! {
            started = self.start() => started.map(|()| true),
            () = stop.next() => Ok(false),
        };
        if let Ok(true) = started {
            self.board.phase(Phase::Ready);
            table(&self.board.snapshot(), self.screen);
            greet(&self.board.snapshot(), self.state)?;
            stop.next().await;
        }
        self.logs.host("stopping");
        self.board.phase(Phase::Stopping);
        let kill = self.kill.clone();
        let impatient = async {
            stop.next().await;
            kill.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.stop() => {}
            () = impatient => {}
        }
        fs::remove_file(self.state.record())?;
        started.map(|_| ExitCode::SUCCESS)
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let (state, settings, programs) = (self.state, self.settings, self.programs);
        let places = settings.leaf_ttl.map(|ttl| state.tls(ttl));
        let tls = places.as_ref().map(|places| self.secure(places)).transpose()?;
        let postgres = Postgres::new(state, programs, settings, places.as_ref())?;
        let kafka = Kafka::new(state, programs, settings, places.as_ref())?;
        postgres.prepare()?;
        kafka.prepare(&self.logs).await?;

        let postgres_component = postgres.component()?;
        let redis_tls = places.as_ref().zip(tls.as_ref());
        let mut infrastructure = redis::components(state, programs, &settings.ports, redis_tls)?;
        infrastructure.push(kafka.component());
        let names: Vec<String> = std::iter::once(&postgres_component)
            .chain(&infrastructure)
            .map(|component| component.name.clone())
            .collect();
        self.launch(vec![postgres_component]);
        self.launch(infrastructure);
        self.ready(&names).await?;
        postgres.create_databases().await?;
        kafka.configure(&self.logs).await?;

        let (edges, brokers, tls) = (&Edges::read()?, kafka.brokers(), places.as_ref());
        let wiring = Wiring { state, programs, settings, postgres: &postgres, brokers, edges, tls };
        self.migrate(&wiring).await?;
        self.start_services(&wiring).await?;
        self.seed().await
    }

    /// Makes certificates for everybody, keeps them current from now on, and returns our own.
    fn secure(&mut self, places: &Places) -> anyhow::Result<Tls> {
        let certificates = Certificates::open(places.clone())?;
        let tls = Tls::load(&places.config(HOST))?;
        tls.keep_current(&self.tasks);
        self.renewal.spawn(certificates.keep_current(self.logs.clone()));
        Ok(tls)
    }

    fn launch(&mut self, components: Vec<Component>) {
        let started = components
            .into_iter()
            .map(|component| Supervised::start(component, &self.board, &self.logs, &self.kill));
        self.stages.push(started.collect());
    }

    async fn ready(&self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            self.board.ready(name, PATIENCE).await?;
        }
        Ok(())
    }

    /// One after the other: each is quick, and its lines stay together.
    async fn migrate(&self, wiring: &Wiring<'_>) -> anyhow::Result<()> {
        for service in Service::ALL {
            let program = wiring.component(service, 0)?.program.args(["migrate"]);
            run_once(&format!("{}-migrate", service.name()), program.command(), &self.logs).await?;
        }
        Ok(())
    }

    async fn start_services(&mut self, wiring: &Wiring<'_>) -> anyhow::Result<()> {
        let replicas = |service: Service| {
            (0..service.replicas(self.settings.replicas))
                .map(move |replica| wiring.component(service, replica))
        };
        let mut behind = Vec::new();
        let mut gateways = Vec::new();
        for service in Service::ALL {
            let components = replicas(service).collect::<anyhow::Result<Vec<_>>>()?;
            match service {
                // Stops after its caller.
                Service::Psp => self.launch(components),
                Service::Gateway => gateways.extend(components),
                Service::Inventory | Service::Payment | Service::Notification | Service::Order => {
                    behind.extend(components);
                }
            }
        }
        self.launch(behind);
        self.launch(gateways);
        let names: Vec<String> =
            self.board.snapshot().rows.into_iter().map(|row| row.name).collect();
        self.ready(&names).await
    }

    /// Loads the catalogue unless exactly this one has been loaded before.
    async fn seed(&self) -> anyhow::Result<()> {
        let Some(catalogue) = &self.settings.catalogue else { return Ok(()) };
        let mark = format!("{} {OPENING_STOCK}", catalogue.digest());
        if fs::read_to_string(self.state.seeded()).is_ok_and(|seeded| seeded == mark) {
            return Ok(());
        }
        let config = self.state.tools(SEED)?;
        let inventory = config.services.inventory.context("the shop has no inventory")?;
        let mesh = Mesh::open(config.tls.as_ref())?;
        let outcome = seed::import(&mesh, &inventory, catalogue, |_| OPENING_STOCK).await?;
        self.logs.host(&format!("catalogue: {outcome}"));
        fs::write(self.state.seeded(), mark)?;
        Ok(())
    }

    /// Services first; within a stage all at once.
    async fn stop(&mut self) {
        while let Some(stage) = self.stages.pop() {
            let mut ending = JoinSet::new();
            for supervised in stage {
                ending.spawn(supervised.stop());
            }
            while ending.join_next().await.is_some() {}
        }
    }
}

/// What asks a program to stop.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl StopSignals {
    /// # Errors
    /// The operating system's.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Prints the address, the users, and a line to try.
pub(crate) fn greet(record: &HostRecord, state: &StateDir) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let gateway = record.gateways.first().map_or("", String::as_str);
    out::line("");
    out::line(&format!("Portolan is ready: {}", record.gateways.join(" and ")));
    for (user, role) in DEMO_USERS {
        out::line(&format!("  user {user}, password {} ({role})", demo_password(user)));
    }
    out::line("Place an order:");
    out::line(&curl_line(gateway, &own, state.root()));
    Ok(())
}

/// One line for a shell: signs a token and places an order with a fresh key.
fn curl_line(gateway: &str, own: &Path, state: &Path) -> String {
    let token = format!("{} token --state {} --user alice", own.display(), state.display());
    let body = r#"{"lines":[{"sku":"85123A","quantity":2}],"payment_token":"tok_ok"}"#;
    format!(
        "  curl -i {gateway}/v1/orders -H \"Authorization: Bearer $({token})\" \
         -H \"Idempotency-Key: $(date +%s%N)\" -H 'Content-Type: application/json' -d '{body}'"
    )
}
