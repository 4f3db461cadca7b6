//! `portolan vault-configure` with a real Vault and a real PostgreSQL.

mod access;
mod again;
mod recovery;

use std::path::PathBuf;

use portolan_cli::pki::Authority;
use serde_json::Value;

use crate::{
    postgres::Postgres,
    program::{Running, portolan, quoted, succeed},
    vault::World,
};

const GATEWAY: &str = r#"
[[workload]]
name = "gateway"
service_account = "gateway"
dns = ["gateway", "gateway.shop.svc"]
kv = ["issuer", "users"]
"#;
const ORDER: &str = r#"
[[workload]]
name = "order"
service_account = "order"
dns = ["order", "order.shop.svc"]
database = "portolan_order"
access = "runtime"

[[workload]]
name = "order-migrate"
service_account = "order-migrate"
dns = ["order-migrate"]
database = "portolan_order"
access = "owner"
"#;
const PAYMENT: &str = r#"
[[workload]]
name = "payment"
service_account = "payment"
dns = ["payment", "payment.shop.svc"]
database = "portolan_payment"
access = "runtime"
kv = ["provider"]

[[workload]]
name = "audit"
service_account = "audit"
databases = ["portolan_order", "portolan_payment"]
access = "reader"
"#;

const IDENTITY: &str = "spiffe://portolan.local/ns/shop/sa/order";

/// A Vault that is handed over, and a PostgreSQL.
struct Shop {
    operator: Running,
    postgres: Postgres,
    world: World,
}

impl Shop {
    /// PostgreSQL is not started.
    fn new(name: &str) -> Self {
        let world = World::new(name);
        let postgres = Postgres::new(&world);
        let operator = world.hand_over();
        Self { operator, postgres, world }
    }

    fn running(name: &str) -> Self {
        let mut shop = Self::new(name);
        shop.postgres.start();
        shop
    }

    fn config(&self, workloads: &[&str]) -> PathBuf {
        self.config_as(workloads, "superuser = \"postgres\"", "passwords/superuser")
    }

    /// `server` is more lines of `[database]`, `password` the file of its superuser's.
    fn config_as(&self, workloads: &[&str], server: &str, password: &str) -> PathBuf {
        let directory = &self.world.directory;
        let token = self.world.api.account_token("vault-configure", "vault");
        directory.write("token", &token);
        for user in ["alice", "olga"] {
            let password = self.world.api.secret("demo-users", user).unwrap();
            directory.write(&format!("users/{user}"), &password);
        }
        // As a mounted Secret has it.
        directory.write("users/..data/alice", "not a user");
        let path = |name: &str| quoted(&directory.0.join(name));
        let text = format!(
            "wait_secs = 60\n\
             [vault]\naddress = \"https://127.0.0.1:{vault}\"\nca = {ca}\ntoken_file = {token}\n\
             namespace = \"shop\"\nown_policy = \"configure\"\n\
             [pki]\nroot_cert = {root}\nroot_key = {key}\ntrust_domain = \"portolan.local\"\n\
             [database]\nhost = \"localhost\"\nport = {postgres}\nca = {ca}\n{server}\n\
             superuser_password_file = {password}\nadmin_password_file = {admin}\n\
             [kv]\ndemo_users_dir = {users}\n\
             [kv.roles]\nolga = [\"operator\"]\n{workloads}",
            vault = self.world.vault.port,
            ca = quoted(&self.world.vault.ca),
            token = path("token"),
            root = path("root/tls.crt"),
            key = path("root/tls.key"),
            postgres = self.postgres.port,
            password = path(password),
            admin = path("passwords/vault_admin"),
            users = path("users"),
            workloads = workloads.concat(),
        );
        directory.write("configure.toml", &text)
    }

    fn configure(&self, workloads: &[&str]) -> String {
        succeed(portolan("vault-configure", &self.config(workloads), &[]))
    }

    /// The token of a workload.
    fn token(&self, workload: &str) -> String {
        self.world.log_in(workload, &format!("portolan-{workload}")).unwrap()
    }

    fn read(&self, workload: &str, path: &str) -> Value {
        self.world.vault.read(path, &self.token(workload))
    }

    /// A login for a workload's database.
    fn login(&self, workload: &str) -> (String, String) {
        let lease = self.read(workload, &format!("database/creds/{workload}"));
        let text = |key: &str| lease[key].as_str().unwrap().to_owned();
        (text("username"), text("password"))
    }

    /// What anybody may know about an item of the key-value store.
    fn item(&self, workload: &str, name: &str) -> Value {
        self.read(workload, &format!("kv/data/{name}"))
    }

    fn issue(&self, workload: &str, body: &Value) -> (u16, Value) {
        let path = format!("pki/issue/{workload}");
        self.world.vault.call("POST", &path, &self.token(workload), body)
    }

    fn root(&self) -> Authority {
        let value = |key| self.world.api.secret("root-ca", key).unwrap();
        Authority::from_pem(&value("tls.crt"), &value("tls.key")).unwrap()
    }
}
