//! Certificates that are replaced, against a broker that demands them.
#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use std::{collections::HashMap, fs, path::PathBuf, time::Duration};

use portolan_kernel::{Clock as _, OrderId, SystemClock};
use portolan_messaging::KafkaConfig;
use portolan_runtime::{CheckReport, metrics};
use portolan_testkit::{PATIENCE, TestCa, TlsKafka, eventually};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::Shop;

/// A broker that starts on a busy machine takes its time.
const PARTITIONS: usize = 3;
/// The super user: access rules are somebody else's test.
const NAME: &str = "kafka";

/// A shop, its broker, and the files that an agent would write.
struct Mesh {
    shop: Shop,
    ca: TestCa,
    broker: TlsKafka,
    directory: PathBuf,
    keys: Vec<OrderId>,
    committed: usize,
}

impl Mesh {
    async fn new() -> Self {
        let (shop, ca) = (Shop::new().await, TestCa::new());
        let broker = TlsKafka::start(&ca).await;
        let topics = ["portolan.order.v1".to_owned(), "portolan.dlq.test.v1".to_owned()];
        broker.create_topics(&topics, i32::try_from(PARTITIONS).unwrap()).await;
        let name = format!("portolan-messaging-{}", shop.key().0.simple());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("roots.pem"), ca.roots()).unwrap();
        let keys = (0..5).map(|_| shop.key()).collect();
        Self { shop, ca, broker, directory, keys, committed: 0 }
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig {
            partitions: PARTITIONS,
            workers: 2,
            max_batch_records: 7,
            tls_roots: Some(self.directory.join("roots.pem")),
            tls_identity: Some(self.identity()),
            ..KafkaConfig::new(self.broker.address())
        }
    }

    fn identity(&self) -> PathBuf {
        self.directory.join("tls.pem")
    }

    /// Puts a file in the place of the identity, as an agent does.
    fn replace_identity(&self, content: &str) {
        let draft = self.directory.join("draft");
        fs::write(&draft, content).unwrap();
        fs::rename(draft, self.identity()).unwrap();
    }

    /// Issues a certificate and puts it in place. Returns when it expires.
    fn renew(&self, lifetime: Duration) -> OffsetDateTime {
        let expires = SystemClock.now() + lifetime;
        self.replace_identity(&self.ca.client(NAME, lifetime));
        expires
    }

    /// Commits ten events of every order.
    async fn work(&mut self) {
        for _ in 0..10 {
            let events: Vec<_> = self.keys.iter().map(|key| self.shop.event(*key, "u")).collect();
            self.shop.commit(&events).await;
            self.committed += events.len();
        }
    }

    /// Waits until everything that was committed has come back, once and in order.
    async fn all_applied(&self) {
        let applied = async || {
            let applied: Vec<(Uuid, Uuid)> =
                sqlx::query_as("SELECT key, event_id FROM applied ORDER BY n")
                    .fetch_all(self.shop.pool())
                    .await
                    .unwrap();
            (applied.len() >= self.committed).then_some(applied)
        };
        let applied = eventually(PATIENCE, "every event is applied", applied).await;
        assert_eq!(applied.len(), self.committed, "nothing is applied twice");
        let mut last: HashMap<Uuid, Uuid> = HashMap::new();
        for (key, event) in applied {
            let before = last.insert(key, event);
            assert!(before.is_none_or(|before| before < event), "nothing overtakes");
        }
    }

    async fn restart_broker_after(&mut self, expiry: OffsetDateTime) {
        eventually(PATIENCE, "the certificate expires", async || {
            (SystemClock.now() > expiry).then_some(())
        })
        .await;
        self.broker.kill();
        self.broker.run().await;
    }

    /// Waits until this line of the metrics shows at least that number. No other test of this
    /// process has certificates.
    async fn counted(&self, series: &str, times: u64) {
        eventually(PATIENCE, series, async || {
            let text = metrics::render();
            let value = text.lines().find_map(|line| line.strip_prefix(series))?;
            (value.trim().parse::<u64>().ok()? >= times).then_some(())
        })
        .await;
    }

    async fn refused_by_broker(&self) {
        eventually(PATIENCE, "the broker refuses the certificate", async || {
            match self.shop.ctx.readiness.report().checks.get("kafka")? {
                CheckReport::Failed { reason } => reason.contains("certificate").then_some(()),
                CheckReport::Ok => None,
            }
        })
        .await;
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_and_expire_while_events_flow_and_none_is_lost_or_doubled() {
    metrics::install("test").unwrap();
    let mut mesh = Mesh::new().await;
    let first = mesh.renew(Duration::from_secs(20));
    mesh.shop.start(&mesh.config(), 0).await.unwrap();
    mesh.work().await;

    // Replaced in time. What is of no use in between changes nothing.
    mesh.replace_identity("-----BEGIN CERTIFICATE-----\nhalf written");
    mesh.counted(r#"portolan_reloads_total{file="kafka.tls_identity",result="failed"}"#, 1).await;
    mesh.work().await;
    let second = mesh.renew(Duration::from_secs(40));
    mesh.work().await;
    for (client, number) in [("producer", 1), ("consumer", 2), ("watch", 1)] {
        let series = format!(r#"portolan_kafka_renewals_total{{client="{client}",result="ok"}}"#);
        mesh.counted(&series, number).await;
    }
    mesh.all_applied().await;
    mesh.restart_broker_after(first).await;
    mesh.work().await;
    mesh.all_applied().await;

    // Replaced too late: nobody is let in with the old one.
    mesh.restart_broker_after(second).await;
    mesh.work().await;
    mesh.refused_by_broker().await;
    mesh.renew(Duration::from_hours(1));
    mesh.work().await;
    mesh.all_applied().await;
}
