//! A real Vault, with the certificate that `portolan bootstrap` made.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use portolan_testkit::free_port;
use serde_json::{Value, json};

use crate::{
    api::Api,
    bootstrap::WANTED,
    program::{Directory, Running, eventually, portolan, quoted, succeed},
};

/// Everything that a start of the chart has before Vault.
pub(crate) struct World {
    pub(crate) vault: Vault,
    pub(crate) api: Api,
    /// Last, so that everything that writes there has ended when it is removed.
    pub(crate) directory: Directory,
}

pub(crate) struct Vault {
    process: Option<Running>,
    pub(crate) port: u16,
    directory: PathBuf,
    config: PathBuf,
    pub(crate) ca: PathBuf,
}

impl World {
    /// The API server, what the bootstrap makes there, and an empty Vault.
    pub(crate) fn new(name: &str) -> Self {
        portolan_runtime::install_crypto();
        let directory = Directory::new(name);
        let api = Api::start(&directory.0);
        let config = directory.write("bootstrap.toml", &format!("{WANTED}\n{}", api.section()));
        succeed(portolan("bootstrap", &config, &[]));
        for (secret, key) in [("vault-tls", "tls.crt"), ("vault-tls", "tls.key")] {
            directory.write(key, &api.secret(secret, key).unwrap());
        }
        for key in ["tls.crt", "tls.key"] {
            directory.write(&format!("root/{key}"), &api.secret("root-ca", key).unwrap());
        }
        let ca = directory.write("ca.crt", &api.config_map("ca", "ca.crt").unwrap());
        let vault = Vault::start(&directory, ca);
        Self { vault, api, directory }
    }

    /// The operator's configuration file.
    pub(crate) fn operator_config(&self) -> PathBuf {
        let text = format!(
            "address = \"https://127.0.0.1:{}\"\nserver_name = \"vault.shop.svc\"\nca = {}\n\
             secret = \"vault-unseal\"\nnamespace = \"shop\"\nkubernetes_host = \"http://{}\"\n\
             kubernetes_ca = {}\n[configure]\nservice_account = \"vault-configure\"\n{}",
            self.vault.port,
            quoted(&self.vault.ca),
            self.api.address,
            quoted(&self.vault.ca),
            self.api.section()
        );
        self.directory.write("operator.toml", &text)
    }

    pub(crate) fn operator(&self) -> Running {
        let program = portolan("vault-operator", &self.operator_config(), &[]);
        Running::start(program, &self.directory.0.join("operator.log"))
    }

    /// Has Vault initialised, opened and handed over.
    pub(crate) fn hand_over(&self) -> Running {
        let mut operator = self.operator();
        operator.wait_for("handed Vault over");
        operator
    }

    /// A token of Vault for a service account, or what Vault says against it.
    pub(crate) fn log_in(&self, account: &str, role: &str) -> Result<String, String> {
        self.log_in_for(account, role, "vault")
    }

    pub(crate) fn log_in_for(
        &self,
        account: &str,
        role: &str,
        audience: &str,
    ) -> Result<String, String> {
        let jwt = self.api.account_token(account, audience);
        let body = json!({"role": role, "jwt": jwt});
        let (status, answer) = self.vault.call("POST", "auth/kubernetes/login", "", &body);
        match status {
            200 => Ok(answer["auth"]["client_token"].as_str().unwrap().to_owned()),
            _ => Err(answer["errors"].to_string()),
        }
    }
}

impl Vault {
    fn start(directory: &Directory, ca: PathBuf) -> Self {
        let (port, cluster) = (free_port(), free_port());
        let data = directory.0.join("vault");
        let text = format!(
            "disable_mlock = true\n\
             api_addr = \"https://127.0.0.1:{port}\"\n\
             cluster_addr = \"https://127.0.0.1:{cluster}\"\n\
             storage \"raft\" {{\n path = {data}\n node_id = \"vault-0\"\n \
             performance_multiplier = 1\n}}\n\
             listener \"tcp\" {{\n address = \"127.0.0.1:{port}\"\n \
             cluster_address = \"127.0.0.1:{cluster}\"\n \
             tls_cert_file = {certificate}\n tls_key_file = {key}\n \
             tls_min_version = \"tls13\"\n}}\n",
            data = quoted(&data),
            certificate = quoted(&directory.0.join("tls.crt")),
            key = quoted(&directory.0.join("tls.key")),
        );
        let config = directory.write("vault.hcl", &text);
        let mut vault = Self { process: None, port, directory: data, config, ca };
        vault.run();
        vault
    }

    fn run(&mut self) {
        fs::create_dir_all(&self.directory).unwrap();
        let mut program = Command::new(program());
        program.arg("server").arg("-config").arg(&self.config);
        self.process = Some(Running::start(program, &self.config.with_extension("log")));
        eventually("Vault listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Everything that it said.
    pub(crate) fn said(&self) -> String {
        self.process.as_ref().unwrap().said()
    }

    /// As when its pod is deleted.
    pub(crate) fn restart(&mut self) {
        self.process.take().unwrap().crash();
        self.run();
    }

    /// As when its claim is deleted, too.
    pub(crate) fn lose_everything(&mut self) {
        self.process.take().unwrap().crash();
        fs::remove_dir_all(&self.directory).unwrap();
        self.run();
    }

    pub(crate) fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let authority = fs::read(&self.ca).unwrap();
        runtime.block_on(async {
            let http = reqwest::Client::builder()
                .tls_certs_only(reqwest::Certificate::from_pem_bundle(&authority).unwrap())
                .build()
                .unwrap();
            let url = format!("https://127.0.0.1:{}/v1/{path}", self.port);
            let mut request = http.request(method.parse().unwrap(), url);
            if !token.is_empty() {
                request = request.header("X-Vault-Token", token);
            }
            if !body.is_null() {
                request = request.json(body);
            }
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let body = response.bytes().await.unwrap();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        })
    }

    /// What is at a path.
    pub(crate) fn read(&self, path: &str, token: &str) -> Value {
        let (status, answer) = self.call("GET", path, token, &Value::Null);
        assert_eq!(status, 200, "{path}: {answer}");
        answer["data"].clone()
    }

    /// The status of a request.
    pub(crate) fn status(&self, method: &str, path: &str, token: &str, body: &Value) -> u16 {
        self.call(method, path, token, body).0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.status("GET", "sys/health", "", &Value::Null) == 200
    }
}

#[expect(clippy::disallowed_methods, reason = "the program is named by the environment")]
fn program() -> PathBuf {
    let named = std::env::var_os("PORTOLAN_VAULT").map(PathBuf::from);
    let found = named.or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|place| place.join("vault")).find(|file| file.is_file())
    });
    let Some(found) = found.filter(|file| Path::is_file(file)) else {
        panic!("no vault program: name one in PORTOLAN_VAULT, or put one on the path")
    };
    found
}
