//! The local app host with real programs: `portolan up` and everything around it, as a user runs
//! it. The services' programs must have been built (`make test` does).
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Restarts have pauses, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);
/// Two orders of different customers.
const ORDERS: &str = "invoice,time,customer,country,sku,quantity,unit_price_minor
1,2011-09-01T07:25:00Z,13509,UK,20677,8,125
1,2011-09-01T07:25:00Z,13509,UK,22128,24,125
2,2011-09-01T07:26:00Z,13510,UK,20677,1,125
";

/// An installation of its own; stopped and removed at the end, whatever happened.
struct Installation {
    state: PathBuf,
    /// Added to every port.
    offset: u16,
    /// What else it is started with.
    args: &'static [&'static str],
}

impl Installation {
    /// Starts an installation on ports that are free. Every test has a `slot` of its own, as far
    /// from the others as an installation's ports are apart (5433 to 9445): tests run at once.
    fn up(name: &str, slot: u16, args: &'static [&'static str]) -> Self {
        let own = std::process::id();
        let state = std::env::temp_dir().join(format!("portolan-{name}-{own}"));
        fs::create_dir_all(&state).unwrap();
        // All ports stay below the range for outgoing connections.
        for attempt in 0..20_u16 {
            let shift = (u16::try_from(own % 150).unwrap() + attempt * 37) % 150 * 20;
            let offset = 11_000 + slot * 4_100 + shift;
            let installation = Self { state: state.clone(), offset, args };
            let output = installation.start();
            if output.status.success() {
                return installation;
            }
            let said = text(&output);
            assert!(said.contains("is taken"), "{said}");
        }
        panic!("no free ports");
    }

    fn start(&self) -> Output {
        let offset = self.offset.to_string();
        let args = ["up", "--detach", "--port-offset", &offset];
        self.run(&[&args, self.args].concat())
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(args).arg("--state").arg(&self.state).output().unwrap()
    }

    fn record(&self) -> Value {
        let text = fs::read(self.state.join("host.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn row(&self, name: &str) -> Value {
        let record = self.record();
        let rows = record["rows"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    }

    /// The numbers of the supervisor and of all it started.
    fn processes(&self) -> Vec<i32> {
        let record = self.record();
        let rows = record["rows"].as_array().unwrap().iter().map(|row| &row["process"]);
        rows.chain([&record["host"]]).map(number).collect()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.run(&["down"]);
        let _kept_for_looking_at = fs::remove_dir_all(&self.state);
    }
}

fn number(process: &Value) -> i32 {
    i32::try_from(process["pid"].as_i64().unwrap()).unwrap()
}

fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// A process that has ended counts as gone even before the system's first process notices.
fn alive(pid: i32) -> bool {
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        return !stat.contains(") Z ") && !stat.contains(") X ");
    }
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(Duration::from_millis(100));
    }
}

fn orders(dir: &Path) -> String {
    let file = dir.join("orders.csv");
    fs::write(&file, ORDERS).unwrap();
    file.display().to_string()
}

#[test]
fn what_is_started_works_comes_back_when_killed_and_leaves_nothing_behind() {
    let shop = Installation::up("host", 0, &[]);
    assert!(text(&shop.run(&["status"])).contains("notification"));

    // What dies comes back as another process.
    for name in ["gateway", "redis-2", "postgres"] {
        let before = number(&shop.row(name)["process"]);
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
        eventually(&format!("{name} is ready again"), || {
            let row = shop.row(name);
            row["state"] == "ready" && row["restarts"] == 1 && number(&row["process"]) != before
        });
    }
    eventually("everything is ready", || shop.run(&["status"]).status.success());

    // Orders go all the way, and the comparison with the file is exact.
    let file = orders(&shop.state);
    let replay = shop.run(&["replay", &file, "--rate", "5"]);
    assert!(replay.status.success(), "{}", text(&replay));
    assert!(text(&replay).contains("2 accepted, 2 completed"), "{}", text(&replay));
    assert!(text(&shop.run(&["dlq", "list"])).starts_with("no dead letters"));

    // A second start finds it running and changes nothing.
    let processes = shop.processes();
    let again = shop.start();
    assert!(again.status.success() && text(&again).contains("already running"), "{}", text(&again));
    assert_eq!(shop.processes(), processes);

    // Nor is a shop that runs emptied.
    let offset = shop.offset.to_string();
    let reset = shop.run(&["up", "--detach", "--reset", "--port-offset", &offset]);
    assert!(!reset.status.success(), "{}", text(&reset));
    assert!(text(&reset).starts_with("error: already running"), "{}", text(&reset));
    assert_eq!(shop.processes(), processes);

    assert!(shop.run(&["down"]).status.success());
    for pid in processes {
        assert!(!alive(pid), "process {pid} is left");
    }
    assert!(!shop.run(&["status"]).status.success());
}

/// What `portolan probe` says of a call to inventory's port without TLS.
fn plaintext(shop: &Installation) -> String {
    let url = format!("http://127.0.0.1:{}", 8442 + shop.offset);
    let mut probe = Command::new(env!("CARGO_BIN_EXE_portolan"));
    text(&probe.args(["probe", "--url", &url, "--method", "a.B/C"]).output().unwrap())
}

#[test]
fn with_tls_after_the_supervisor_was_killed_the_next_start_stops_what_it_left_and_keeps_the_data() {
    let shop = Installation::up("orphans", 1, &["--tls", "--tls-leaf-ttl", "60s"]);
    let certificate = fs::read(shop.state.join("tls/order.pem")).unwrap();
    assert!(plaintext(&shop).starts_with("UNREACHABLE"), "{}", plaintext(&shop));
    let file = orders(&shop.state);
    let replay = shop.run(&["replay", &file, "--rate", "5"]);
    assert!(replay.status.success(), "{}", text(&replay));
    // Everything works with the next certificates as well.
    eventually("there is a new certificate", || {
        fs::read(shop.state.join("tls/order.pem")).unwrap() != certificate
    });
    let audit = shop.run(&["audit"]);
    assert!(audit.status.success(), "{}", text(&audit));
    // Every consumer lets the gateway ask.
    let dead_letters = text(&shop.run(&["dlq", "list"]));
    assert!(dead_letters.starts_with("no dead letters"), "{dead_letters}");
    let left = shop.processes();
    kill(Pid::from_raw(number(&shop.record()["host"])), Signal::SIGKILL).unwrap();
    eventually("the supervisor is gone", || !shop.run(&["status"]).status.success());

    let again = shop.start();
    assert!(again.status.success(), "{}", text(&again));
    for pid in left {
        assert!(!alive(pid), "process {pid} of the killed supervisor is left");
    }
    // The stock of the first replay is still gone, or the comparison would not be exact twice.
    let url = format!("http://127.0.0.1:{}/v1/products/20677", 8080 + shop.offset);
    let product = Command::new("curl").args(["-s", &url]).output().unwrap();
    let product: Value = serde_json::from_slice(&product.stdout).unwrap();
    assert_eq!(product["available"], 100_000 - 9);
}

#[test]
fn a_taken_port_is_one_clear_line_before_anything_starts() {
    let shop = Installation::up("ports", 2, &[]);
    assert!(shop.run(&["down"]).status.success());
    let holder = TcpListener::bind(("127.0.0.1", 8442 + shop.offset)).unwrap();
    let output = shop.start();
    assert!(!output.status.success());
    let said = text(&output);
    let wanted = format!("error: port {} (inventory) is taken", 8442 + shop.offset);
    assert!(said.starts_with(&wanted) && said.lines().count() == 1, "{said}");
    assert!(!shop.state.join("host.json").exists(), "something was started");
    drop(holder);
}
