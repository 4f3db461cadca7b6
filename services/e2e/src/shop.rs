use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf, sync::Mutex, time::Duration};

use futures::future::join_all;
use portolan_auth::hash_password;
use portolan_proto::{
    TOPICS,
    common::v1::Money,
    inventory::v1::{
        ImportProductsRequest, ImportedProduct, inventory_service_client::InventoryServiceClient,
    },
};
use portolan_testkit::{PATIENCE, TestDb, TestKafka, TestRecord, free_port};
use sqlx::PgPool;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    Program, Scratch,
    broker::{GROUPS, topics_are_known},
    config::{AUDIENCE, Config, ISSUER, Ports},
    customer::Attempt,
    logins::{Logins, divide},
    processes::Replica,
    program,
};

/// How many shops may run at once in one test binary.
static SHOPS: Semaphore = Semaphore::const_new(2);

/// The password of every user of the development issuer.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The users who can log in: two customers and an operator.
const USERS: [(&str, &str); 3] = [("alice", "customer"), ("bob", "customer"), ("olga", "operator")];

/// What every shop sells: SKU, price in pence, opening stock.
pub(crate) const CATALOGUE: [(&str, i64, i64); 3] =
    [("TEAPOT", 1_250, 100_000), ("CUP", 300, 100_000), ("CLOCK", 9_900, 3)];

/// The programs of a shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The payment provider's simulator: always one.
    Psp,
    Inventory,
    Order,
    Payment,
    Notification,
    Gateway,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Psp, Self::Inventory, Self::Order, Self::Payment, Self::Notification, Self::Gateway];

    /// Its short name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Psp => "psp",
            Self::Inventory => "inventory",
            Self::Order => "order",
            Self::Payment => "payment",
            Self::Notification => "notification",
            Self::Gateway => "gateway",
        }
    }

    const fn has_database(self) -> bool {
        !matches!(self, Self::Gateway)
    }
}

/// How a shop differs from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Processes of each service; there is always one provider.
    pub replicas: usize,
    /// How long an order may stay undecided.
    pub deadline_secs: u32,
    /// How long the payment service waits for the provider.
    pub payment_timeout_ms: u64,
    /// How long the provider takes for `tok_late`.
    pub late_ms: u64,
    /// How long a process that is told to stop goes on serving while it says that it is not ready.
    pub drain_ms: u64,
    /// A broker other than the one that all tests share.
    pub broker: Option<String>,
    /// Where to send spans.
    pub collector: Option<String>,
    /// The gateways' `[quota]`, as TOML; without it each counts for itself alone.
    pub quota: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: 1,
            deadline_secs: 900,
            payment_timeout_ms: 1_000,
            late_ms: 2_000,
            drain_ms: 0,
            broker: None,
            collector: None,
            quota: None,
        }
    }
}

/// A running shop of its own for one test. Everything ends with it.
#[derive(Debug)]
pub struct Shop {
    // First, so that the processes are gone before their databases and topics go.
    pub(crate) replicas: BTreeMap<(Service, usize), Replica>,
    pub(crate) databases: BTreeMap<Service, TestDb>,
    logins: BTreeMap<Service, Logins>,
    kafka: Option<TestKafka>,
    pub(crate) brokers: String,
    pub(crate) topic_prefix: String,
    pub(crate) scratch: Scratch,
    pub(crate) attempts: Mutex<Vec<Attempt>>,
    pub(crate) http: reqwest::Client,
    pub(crate) options: Options,
    _permit: SemaphorePermit<'static>,
}

impl Shop {
    /// A shop with one process of each kind, stocked and ready.
    pub async fn open() -> Self {
        Self::with(Options::default()).await
    }

    /// A shop that differs from the usual one.
    pub async fn with(options: Options) -> Self {
        let shop = Self::build(options).await;
        shop.migrate().await;
        for replica in shop.replicas.values() {
            replica.program().start();
        }
        for (service, index) in shop.replicas.keys() {
            shop.ready(*service, *index).await;
        }
        shop.stock().await;
        shop
    }

    async fn build(options: Options) -> Self {
        let permit = SHOPS.acquire().await.expect("an open semaphore");
        let (mut databases, mut logins) = (BTreeMap::new(), BTreeMap::new());
        for service in Service::ALL.into_iter().filter(|service| service.has_database()) {
            let database = TestDb::new(&[]).await;
            logins.insert(service, divide(&database).await);
            databases.insert(service, database);
        }
        let (kafka, (brokers, topic_prefix, partitions)) = topics(options.broker.as_deref()).await;
        let scratch = Scratch::new();
        let mut shop = Self {
            replicas: BTreeMap::new(),
            databases,
            logins,
            kafka,
            brokers,
            topic_prefix,
            scratch,
            attempts: Mutex::default(),
            http: client(),
            options,
            _permit: permit,
        };
        shop.configure(partitions);
        shop
    }

    fn configure(&mut self, partitions: i32) {
        let mut ports = BTreeMap::new();
        for service in Service::ALL {
            let count = if service == Service::Psp { 1 } else { self.options.replicas };
            for index in 0..count {
                let pair = Ports { service: free_port(), admin: free_port() };
                ports.insert((service, index), pair);
            }
        }
        for (&(service, index), &own) in &ports {
            let peer = |peer| ports.get(&(peer, index)).or(ports.get(&(peer, 0))).map(|p| p.url());
            let peer = |service| peer(service).expect("every service has a first replica");
            let config = self.config(service, &peer).server(own, self.options.drain_ms);
            let config = match self.logins.get(&service) {
                Some(logins) => config.database(&logins.service),
                None => config,
            };
            let config = match &self.options.collector {
                Some(url) => config.collector(url),
                None => config,
            };
            let config = match service {
                Service::Psp | Service::Gateway => config,
                Service::Inventory | Service::Order | Service::Payment | Service::Notification => {
                    config.kafka(&self.brokers, &self.topic_prefix, partitions)
                }
            };
            let name = format!("{}-{index}", service.name());
            let file = self.scratch.write(&format!("{name}.toml"), config.text());
            let program = Program::new(&name, binary(service), &[], file);
            self.replicas.insert((service, index), Replica::new(own, program));
        }
    }

    /// The keys that only this service has.
    fn config(&self, service: Service, peer: &dyn Fn(Service) -> String) -> Config {
        let options = &self.options;
        match service {
            Service::Psp => Config::new(&format!("late_ms = {}", options.late_ms)),
            Service::Order => {
                Config::new(&format!("inventory_url = '{}'", peer(Service::Inventory))).section(
                    "orders",
                    &format!("deadline_secs = {}\nsweep_interval_ms = 200", options.deadline_secs),
                )
            }
            Service::Payment => Config::new("").section(
                "psp",
                &format!(
                    "url = '{}'\ntimeout_ms = {}\nretry_base_ms = 50\nretry_cap_ms = 500",
                    peer(Service::Psp),
                    options.payment_timeout_ms
                ),
            ),
            Service::Inventory | Service::Notification => Config::new(""),
            Service::Gateway => self.gateway(peer),
        }
    }

    fn gateway(&self, peer: &dyn Fn(Service) -> String) -> Config {
        let config = Config::new(&format!(
            "order_url = '{}'\ninventory_url = '{}'\npayment_url = '{}'\n\
             notification_url = '{}'",
            peer(Service::Order),
            peer(Service::Inventory),
            peer(Service::Payment),
            peer(Service::Notification)
        ))
        .section("auth", &format!("issuer = '{ISSUER}'\naudience = '{AUDIENCE}'"))
        .section("dev_issuer", &self.dev_issuer());
        match &self.options.quota {
            Some(quota) => config.section("quota", quota),
            None => config,
        }
    }

    fn dev_issuer(&self) -> String {
        let hash = hash_password(PASSWORD).expect("a password hash");
        let users = USERS.map(|(name, role)| {
            format!("{{ username = '{name}', password_hash = '{hash}', roles = ['{role}'] }}")
        });
        let (key_file, users) = (self.key_file(), users.join(", "));
        format!("enabled = true\nkey_file = '{}'\nusers = [{users}]", key_file.display())
    }

    /// The keys with which the gateways sign, the present one first.
    pub fn key_file(&self) -> PathBuf {
        self.scratch.path().join("issuer.pem")
    }

    async fn migrate(&self) {
        let migrations = self.databases.keys().map(|&service| async move {
            let name = format!("{}-migrate", service.name());
            let file = self.config_of_migration(service, &name);
            let run = Program::new(&name, binary(service), &["migrate"], file).run(PATIENCE).await;
            assert_eq!(run.code, Some(0), "{} migrate: {}", service.name(), run.output);
        });
        join_all(migrations).await;
    }

    /// The first process's configuration, but for the login.
    fn config_of_migration(&self, service: Service, name: &str) -> PathBuf {
        let text = fs::read_to_string(self.config_file(service, 0)).expect("a configuration file");
        let logins = self.logins.get(&service).expect("a service with a database");
        self.scratch
            .write(&format!("{name}.toml"), &text.replace(&logins.service, &logins.migrator))
    }

    /// The configuration file of a process.
    pub fn config_file(&self, service: Service, index: usize) -> PathBuf {
        self.scratch.path().join(format!("{}-{index}.toml", service.name()))
    }

    async fn stock(&self) {
        let products = CATALOGUE.map(|(sku, price, quantity)| ImportedProduct {
            sku: sku.to_owned(),
            name: format!("a {}", sku.to_lowercase()),
            price: Some(Money { minor_units: price, currency: "GBP".to_owned() }),
            quantity,
        });
        let url = self.replica(Service::Inventory, 0).ports.url();
        let mut inventory =
            InventoryServiceClient::connect(url).await.expect("inventory takes connections");
        let request = ImportProductsRequest { products: products.into() };
        inventory.import_products(request).await.expect("the products are imported");
    }

    /// The database of a service, from the outside.
    pub fn database(&self, service: Service) -> &PgPool {
        self.databases.get(&service).expect("a service with a database").pool()
    }

    /// The URL by which a service reaches its database.
    pub fn database_url(&self, service: Service) -> &str {
        &self.logins.get(&service).expect("a service with a database").service
    }

    /// One number out of a service's database.
    pub async fn count(&self, service: Service, sql: &'static str) -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(self.database(service)).await;
        count.expect("a query that counts")
    }

    /// The topics, from the outside.
    /// The shop has a broker of its own.
    pub fn kafka(&self) -> &TestKafka {
        self.kafka.as_ref().expect("a shop on the shared broker")
    }

    /// Every record of every topic, in order within each partition.
    pub async fn records(&self) -> Vec<(portolan_proto::Topic, TestRecord)> {
        let mut all = Vec::new();
        for topic in TOPICS {
            let records = self.kafka().consume_all(topic).await;
            all.extend(records.into_iter().map(|record| (topic, record)));
        }
        all
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut out = std::io::stderr().lock();
        for replica in self.replicas.values() {
            let _ = out.write_all(replica.program().log_end().as_bytes());
        }
    }
}

/// The topics on the shared broker, or nothing where a broker of one's own has them; and where and
/// how many they are.
async fn topics(broker: Option<&str>) -> (Option<TestKafka>, (String, String, i32)) {
    if let Some(broker) = broker {
        return (None, (broker.to_owned(), String::new(), 3));
    }
    let mut kafka = TestKafka::new(&TOPICS).await;
    let dead = GROUPS.map(|group| format!("portolan.dlq.{group}.v1"));
    kafka.create(&dead.each_ref().map(String::as_str)).await;
    let parts = kafka.config_parts();
    topics_are_known(&parts.0, &parts.1, TOPICS.len() + GROUPS.len()).await;
    (Some(kafka), parts)
}

fn binary(service: Service) -> PathBuf {
    program(&format!("portolan-{}", service.name()))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("an HTTP client")
}
