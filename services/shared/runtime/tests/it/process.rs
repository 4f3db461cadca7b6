//! Real processes: this test binary starts itself again as a small service.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, routing::get};
use futures::StreamExt as _;
use portolan_runtime::{
    Callers, Context, Invalid, ServerConfig, Service, TelemetryConfig, TlsConfig, Validate,
    http_client,
};
use portolan_testkit::{TestMesh, context, eventually, free_port};
use serde::Deserialize;
use tokio::sync::mpsc::Receiver;

const CHILD: &str = "PORTOLAN_RUNTIME_TEST_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    server: ServerConfig,
    #[serde(default)]
    telemetry: TelemetryConfig,
    tls: Option<TlsConfig>,
    #[serde(default)]
    workers: usize,
    #[serde(default)]
    dies: bool,
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        Invalid::unless(self.workers < 10, "workers", "must be less than 10")
    }
}

#[derive(Debug)]
struct Sample;

impl Service for Sample {
    const NAME: &'static str = "sample";
    type Config = Config;

    fn server(config: &Config) -> &ServerConfig {
        &config.server
    }

    fn telemetry(config: &Config) -> &TelemetryConfig {
        &config.telemetry
    }

    fn tls(config: &Config) -> Option<&TlsConfig> {
        config.tls.as_ref()
    }

    async fn migrate(_config: Config, _ctx: Context) -> anyhow::Result<()> {
        Err(anyhow::anyhow!("no such host").context("cannot connect"))
    }

    async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
        if config.dies {
            ctx.tasks.spawn("consumer", async { anyhow::bail!("the broker is gone for good") });
        }
        portolan_runtime::http::serve(&ctx, Router::new().route("/", get(hello))).await
    }
}

#[tracing::instrument(target = "portolan_sample", name = "say hello")]
async fn hello() -> &'static str {
    "hello"
}

/// Not a test: what the processes of the other tests run.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the child knows that it is one")]
fn child() {
    let Ok(command) = std::env::var(CHILD) else { return };
    let code = portolan_runtime::run::<Sample>(["portolan-sample".into(), command.into()]);
    std::process::exit(code.into());
}

struct Process {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    fn start(command: &str, variables: &[(&str, &str)]) -> Self {
        let [listen, admin] = [free_port(), free_port()].map(|port| ([127, 0, 0, 1], port).into());
        Self::start_on(command, variables, listen, admin)
    }

    fn start_on(
        command: &str,
        variables: &[(&str, &str)],
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::child", "--nocapture", "--quiet"])
            .env(CHILD, command)
            .env("PORTOLAN__SERVER__LISTEN", listen.to_string())
            .env("PORTOLAN__SERVER__ADMIN_LISTEN", admin.to_string())
            .env("PORTOLAN__TELEMETRY__LOG_FILTER", "off")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, listen, admin }
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    async fn readyz(&self) -> Option<u16> {
        let url = format!("http://{}/readyz", self.admin);
        let client = http_client(Duration::from_secs(1)).unwrap();
        Some(client.get(url).send().await.ok()?.status().as_u16())
    }

    async fn until_readyz(&self, wanted: u16) {
        let probe = async || (self.readyz().await == Some(wanted)).then_some(());
        eventually(PATIENCE, &format!("/readyz answers {wanted}"), probe).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one line that a process which cannot start leaves behind.
fn complaint(command: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let (code, text) = end(Process::start(command, variables));
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    (code, text.trim_end().to_owned())
}

/// Waits for the end. Exit code and stderr.
fn end(mut process: Process) -> (i32, String) {
    let mut text = String::new();
    process.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (process.child.wait().unwrap().code().unwrap(), text)
}

#[test]
fn an_unknown_key_is_named_with_its_origin() {
    let (code, line) = complaint("serve", &[("PORTOLAN__SERVER__LISTN", "127.0.0.1:1")]);
    assert_eq!(code, 64);
    assert!(
        line.starts_with("portolan-sample: invalid configuration: unknown key server.listn"),
        "{line}"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_named_and_not_repeated() {
    let (code, line) = complaint("serve", &[("PORTOLAN__SERVER__GRACE_SECS", "hunter2")]);
    assert_eq!(code, 64);
    assert!(line.contains("server.grace_secs: expected u64"), "{line}");
    assert!(line.contains("PORTOLAN__SERVER__GRACE_SECS"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

#[test]
fn a_value_out_of_range_is_named() {
    let (code, line) = complaint("serve", &[("PORTOLAN__WORKERS", "10")]);
    assert_eq!(code, 64);
    assert_eq!(line, "portolan-sample: invalid configuration: workers: must be less than 10");
    let connections = ("PORTOLAN__SERVER__MAX_CONNECTIONS", "0");
    assert!(complaint("serve", &[connections]).1.contains("server.max_connections"));
    let filter = ("PORTOLAN__TELEMETRY__LOG_FILTER", "a=b=c");
    assert!(complaint("serve", &[filter]).1.contains("telemetry.log_filter"));
    let endpoint = ("PORTOLAN__TELEMETRY__OTLP_ENDPOINT", "localhost");
    assert!(complaint("serve", &[endpoint]).1.contains("telemetry.otlp_endpoint"));
    let endpoint = ("PORTOLAN__TELEMETRY__OTLP_ENDPOINT", "https://localhost:4317");
    assert!(complaint("serve", &[endpoint]).1.contains("needs the section tls"));
}

#[test]
fn a_missing_file_is_named() {
    let (code, line) = complaint("serve", &[("PORTOLAN_CONFIG", "/nonexistent/sample.toml")]);
    assert_eq!(code, 64);
    assert!(line.contains("cannot read the configuration file /nonexistent/sample.toml"), "{line}");
}

#[test]
fn the_file_is_named_when_a_key_in_it_is_wrong_and_the_environment_wins_over_it() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sample.toml");
    std::fs::write(&path, "workers = 20\n[server]\ngrace_secs = \"x\"\n").unwrap();
    let file = ("PORTOLAN_CONFIG", path.to_str().unwrap());
    let (code, line) = complaint("serve", &[file]);
    assert_eq!(code, 64);
    assert!(line.contains("server.grace_secs: expected u64 (in "), "{line}");
    assert!(line.contains("sample.toml"), "{line}");
    let fixed = [file, ("PORTOLAN__SERVER__GRACE_SECS", "1"), ("PORTOLAN__WORKERS", "2")];
    let (code, text) = end(Process::start("check-config", &fixed));
    assert_eq!((code, text.as_str()), (0, ""));
}

#[test]
fn wrong_usage_is_64() {
    assert_eq!(end(Process::start("sirve", &[])).0, 64);
}

#[test]
fn an_error_with_causes_is_one_line() {
    let (code, line) = complaint("migrate", &[]);
    assert_eq!((code, line.as_str()), (1, "portolan-sample: cannot connect: no such host"));
}

#[test]
fn a_taken_port_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let free = ([127, 0, 0, 1], free_port()).into();
    for (key, listen, admin) in
        [("server.listen", address, free), ("server.admin_listen", free, address)]
    {
        let (code, line) = end(Process::start_on("serve", &[], listen, admin));
        assert_eq!(code, 1);
        let expected =
            format!("portolan-sample: cannot listen on {key} {address}: address already in use\n");
        assert_eq!(line, expected);
    }
}

#[test]
fn a_task_that_dies_takes_the_process_with_it() {
    let (code, line) = complaint("serve", &[("PORTOLAN__DIES", "true")]);
    assert_eq!(code, 1);
    assert_eq!(line, "portolan-sample: task consumer failed: the broker is gone for good");
}

#[tokio::test]
async fn after_sigterm_it_is_unready_but_serves_until_the_drain_delay_is_over() {
    let process = Process::start("serve", &[("PORTOLAN__SERVER__DRAIN_DELAY_MS", "2000")]);
    process.until_readyz(200).await;
    process.terminate();
    process.until_readyz(503).await;
    let answer = reqwest::get(format!("http://{}/", process.listen)).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello");
    assert_eq!(end(process), (0, String::new()));
}

#[tokio::test]
async fn a_collector_that_is_down_harms_nothing() {
    let collector = format!("http://127.0.0.1:{}", free_port());
    let process =
        Process::start("serve", &[("PORTOLAN__TELEMETRY__OTLP_ENDPOINT", collector.as_str())]);
    process.until_readyz(200).await;
    process.terminate();
    assert_eq!(end(process), (0, String::new()));
}

#[tokio::test]
async fn spans_that_wait_are_sent_before_it_ends() {
    let (sender, mut exports) = tokio::sync::mpsc::channel::<Bytes>(10);
    let collect = async move |body: Bytes| {
        sender.send(body).await.unwrap();
        [("content-type", "application/grpc"), ("grpc-status", "0")]
    };
    let collector = context();
    portolan_runtime::http::serve(&collector, Router::new().fallback(collect)).await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let process =
        Process::start("serve", &[("PORTOLAN__TELEMETRY__OTLP_ENDPOINT", endpoint.as_str())]);
    expect_hello(process, &mut exports).await;
}

/// Has the process make a span and end, and expects that span.
async fn expect_hello(process: Process, exports: &mut Receiver<Bytes>) {
    process.until_readyz(200).await;
    reqwest::get(format!("http://{}/", process.listen)).await.unwrap();
    process.terminate();
    let export = tokio::time::timeout(PATIENCE, exports.recv()).await.unwrap().unwrap();
    let export = String::from_utf8_lossy(&export);
    assert!(export.contains("portolan-sample") && export.contains("say hello"), "{export}");
}

#[tokio::test]
async fn spans_go_by_mutual_tls_to_a_collector_of_the_mesh() {
    let mesh = TestMesh::new();
    let (sender, mut exports) = tokio::sync::mpsc::channel::<Bytes>(10);
    let collect = async move |body: Bytes| {
        sender.send(body).await.unwrap();
        [("content-type", "application/grpc"), ("grpc-status", "0")]
    };
    let collector = context().with_tls(Some(mesh.load("jaeger")));
    let callers: Callers = [("sample", ["*"])].into_iter().collect();
    let router = Router::new().fallback(collect);
    portolan_runtime::http::serve_mesh(&collector, router, &callers).await.unwrap();
    let endpoint = format!("https://{}", collector.local_addr().unwrap());
    let tls = mesh.config("sample");
    let process = Process::start(
        "serve",
        &[
            ("PORTOLAN__TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()),
            ("PORTOLAN__TLS__IDENTITY", tls.identity.to_str().unwrap()),
            ("PORTOLAN__TLS__ROOTS", tls.roots.to_str().unwrap()),
            ("PORTOLAN__TLS__TRUST_DOMAIN", &tls.trust_domain),
            ("PORTOLAN__TLS__NAMESPACE", &tls.namespace),
        ],
    );
    expect_hello(process, &mut exports).await;
}

#[test]
fn an_identity_that_is_not_usable_is_one_line() {
    let mesh = TestMesh::new();
    let tls = mesh.config("sample");
    mesh.write_identity("sample", "");
    let (code, line) = complaint(
        "serve",
        &[
            ("PORTOLAN__TLS__IDENTITY", tls.identity.to_str().unwrap()),
            ("PORTOLAN__TLS__ROOTS", tls.roots.to_str().unwrap()),
            ("PORTOLAN__TLS__TRUST_DOMAIN", &tls.trust_domain),
            ("PORTOLAN__TLS__NAMESPACE", &tls.namespace),
        ],
    );
    let file = tls.identity.display();
    let expected = format!("portolan-sample: tls.identity {file}: no certificate in it");
    assert_eq!((code, line), (1, expected));
}

async fn say_hello(client: &reqwest::Client, process: &Process) {
    let answer = client.get(format!("http://{}/", process.listen)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello");
}

/// More requests than spans are kept waiting.
async fn say_hello_often(client: &reqwest::Client, process: &Process) {
    let all = futures::stream::iter(0..3_000).map(|_| say_hello(client, process));
    all.buffer_unordered(10).collect::<()>().await;
}

fn exporting(endpoint: &str) -> Process {
    Process::start("serve", &[("PORTOLAN__TELEMETRY__OTLP_ENDPOINT", endpoint)])
}

#[tokio::test]
async fn a_collector_that_is_gone_fails_no_request() {
    let process = exporting(&format!("http://127.0.0.1:{}", free_port()));
    process.until_readyz(200).await;
    say_hello_often(&http_client(PATIENCE).unwrap(), &process).await;
    process.terminate();
    assert_eq!(end(process), (0, String::new()));
}

/// The exports to a collector that never answers.
#[derive(Clone, Default)]
struct Exports {
    begun: Arc<AtomicUsize>,
    given_up: Arc<AtomicUsize>,
}

impl Exports {
    async fn hang(self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _noted = GivenUp(self.given_up);
        std::future::pending::<()>().await;
    }

    /// The number of the export that waits for its answer, if one does.
    fn waiting(&self) -> Option<usize> {
        let given_up = self.given_up.load(Ordering::SeqCst);
        Some(self.begun.load(Ordering::SeqCst)).filter(|begun| *begun > given_up)
    }
}

struct GivenUp(Arc<AtomicUsize>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn no_request_waits_for_a_collector_that_hangs() {
    let (collector, exports) = (context(), Exports::default());
    let hang = exports.clone();
    let router = Router::new().fallback(async move || hang.hang().await);
    portolan_runtime::http::serve(&collector, router).await.unwrap();
    let process = exporting(&format!("http://{}", collector.local_addr().unwrap()));
    process.until_readyz(200).await;
    let client = http_client(PATIENCE).unwrap();
    say_hello_often(&client, &process).await;
    let meanwhile = async || {
        let before = exports.waiting();
        say_hello(&client, &process).await;
        (before.is_some() && before == exports.waiting()).then_some(())
    };
    eventually(PATIENCE, "a request is answered while an export waits", meanwhile).await;
    process.terminate();
    assert_eq!(end(process), (0, String::new()));
}
