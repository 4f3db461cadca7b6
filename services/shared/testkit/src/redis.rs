use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use portolan_kernel::{IdGen as _, RandomIds, SystemClock};

use crate::{PATIENCE, TestMesh, free_port};

const CLOCK: &str = include_str!("../../../../deploy/local/clock.c");
const PAUSE: Duration = Duration::from_millis(10);

/// A Redis server of one test's own. It is gone with the value, and its data with it.
#[derive(Debug)]
pub struct TestRedis {
    directory: PathBuf,
    port: u16,
    settings: Vec<String>,
    /// What moves its clock.
    shim: Option<PathBuf>,
    process: Option<Child>,
}

impl TestRedis {
    /// A server that writes nothing to disk.
    #[expect(clippy::new_without_default, reason = "every one is another")]
    pub fn new() -> Self {
        Self::start(&[], false)
    }

    /// A server whose clock can be moved.
    pub fn with_clock() -> Self {
        Self::start(&[], true)
    }

    /// A server that shows the mesh's certificate of `redis`, and lets in those alone who show one
    /// of the mesh.
    pub fn with_tls(mesh: &TestMesh) -> Self {
        let identity = mesh.config("redis").identity.display().to_string();
        let roots = mesh.roots_file().display().to_string();
        let settings = [
            ("--tls-cert-file", identity.as_str()),
            ("--tls-key-file", &identity),
            ("--tls-ca-cert-file", &roots),
            ("--tls-auth-clients", "yes"),
        ];
        Self::start(&settings, false)
    }

    fn start(settings: &[(&str, &str)], clock: bool) -> Self {
        let unique = RandomIds(SystemClock).next().simple().to_string();
        let directory = std::env::temp_dir().join(format!("portolan-redis-{unique}"));
        fs::create_dir(&directory).expect("a directory for Redis");
        let settings = settings.iter().flat_map(|(key, value)| [*key, *value]);
        let mut server = Self {
            shim: clock.then(|| compile(&directory)),
            directory,
            port: free_port(),
            settings: settings.map(str::to_owned).collect(),
            process: None,
        };
        server.restart();
        server
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).to_string()
    }

    /// Starts it if it does not run, without the data it had, and waits until it accepts.
    pub fn restart(&mut self) {
        if self.process.is_some() {
            return;
        }
        let port = self.port.to_string();
        let ports = if self.settings.is_empty() {
            ["--port", &port, "--tls-port", "0"]
        } else {
            ["--port", "0", "--tls-port", &port]
        };
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(ports)
            .args(&self.settings)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some(shim) = &self.shim {
            command.env("LD_PRELOAD", shim).env("CLOCKS_AHEAD", &self.directory);
        }
        self.process = Some(command.spawn().expect("redis-server starts"));
        let accepts = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if accepts() {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("redis-server does not answer within {PATIENCE:?}");
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Lets it stand still: it accepts connections, and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("a signal");
    }

    /// Makes its clock differ from the machine's by so much.
    pub fn set_clock_ahead(&self, by: Duration) {
        assert!(self.shim.is_some(), "only with_clock() can do that");
        let draft = self.directory.join("clock.draft");
        fs::write(&draft, by.as_micros().to_string()).expect("a file can be written");
        fs::rename(&draft, self.directory.join(self.id().to_string()))
            .expect("a file can be renamed");
    }

    fn id(&self) -> u32 {
        self.process.as_ref().expect("Redis runs").id()
    }

    /// Sends one command, words separated by spaces, and returns the answer as it stands in the
    /// protocol (RESP), without the last line break. Not over TLS.
    pub fn command(&self, line: &str) -> String {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = stream.expect("Redis accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // Redis closes the connection after the answer to the second command.
        write!(stream, "{line}\r\nQUIT\r\n").expect("a command can be sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("Redis answers");
        answer.trim_end_matches("+OK\r\n").trim_end().to_owned()
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn compile(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    fs::write(&source, CLOCK).expect("a file can be written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .status()
        .expect("cc starts");
    assert!(compiled.success(), "the clock does not compile");
    library
}
