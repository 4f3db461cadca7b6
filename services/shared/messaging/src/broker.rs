//! Whether a broker answers and has the topics that we need.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use anyhow::bail;
use portolan_runtime::{Check, Context};
use rdkafka::{
    ClientContext,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    metadata::Metadata,
    producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext},
};
use tokio::time::Instant;

use crate::kafka::Kafka;

const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection may take longer to be made than one question waits.
const START_OVER_AFTER: u32 = 4;
/// Between two questions while the process waits to start.
const PAUSE: Duration = Duration::from_millis(200);
/// For what librdkafka has to tell after an answer, or after none.
const EVENTS: Duration = Duration::from_millis(1);

/// Asks for the topics. It has a client of its own: one that is busy must not look like a broker
/// that is gone.
pub(crate) struct Broker {
    kafka: Kafka,
    client: Arc<Client>,
    topics: Vec<String>,
    check: Check,
    /// How many questions in a row nobody answered.
    unanswered: u32,
}

type Client = BaseProducer<LastError>;

impl Broker {
    /// `topics` are names without the deployment's prefix; `check` hears about them.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub(crate) fn new(kafka: &Kafka, topics: &[String], check: Check) -> KafkaResult<Self> {
        let mut kafka = kafka.clone();
        let client = Arc::new(client(&mut kafka)?);
        let topics = topics.iter().map(|topic| kafka.config().topic(topic)).collect();
        Ok(Self { kafka, client, topics, check, unanswered: 0 })
    }

    /// Waits until a broker answers and every topic is as it must be.
    ///
    /// # Errors
    /// The configured time is over; the line says what is missing.
    pub(crate) async fn wait(&mut self) -> anyhow::Result<()> {
        let limit = Duration::from_secs(self.kafka.config().connect_timeout_secs);
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.probe(left.min(PROBE_TIMEOUT)).await {
                Ok(()) => return Ok(()),
                Err(problem) if Instant::now() + PAUSE > deadline => return Err(problem),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Goes on asking until shutdown.
    pub(crate) fn watch(mut self, ctx: &Context) {
        let stop = ctx.tasks.soft();
        ctx.tasks.spawn("broker watch", async move {
            while stop.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_some() {
                // What is wrong is told by the check.
                let _ = self.probe(PROBE_TIMEOUT).await;
            }
            Ok(())
        });
    }

    async fn probe(&mut self, timeout: Duration) -> anyhow::Result<()> {
        self.kafka.renew("watch", &mut self.client, |kafka| client(kafka).map(Arc::new));
        let asked = Arc::clone(&self.client);
        let answer = tokio::task::spawn_blocking(move || ask(&asked, timeout)).await?;
        metrics::gauge!("portolan_kafka_up").set(if answer.is_ok() { 1.0 } else { 0.0 });
        self.kafka.answers().store(answer.is_ok(), Ordering::Relaxed);
        self.unanswered = if answer.is_err() { self.unanswered + 1 } else { 0 };
        if self.unanswered == START_OVER_AFTER {
            self.unanswered = 0;
            self.start_over();
        }
        let verdict = match answer {
            Ok(metadata) => self.verify(&metadata),
            Err(problem) => {
                let brokers = &self.kafka.config().brokers;
                Err(anyhow::anyhow!("kafka.brokers: no broker answers at {brokers}: {problem}"))
            }
        };
        match &verdict {
            Ok(()) => self.check.ok(),
            Err(problem) => self.check.fail(problem.to_string()),
        }
        verdict
    }

    /// A client that nobody answered again and again may have lost sight of the brokers for good, as a
    /// consumer may (see [`crate::client::GroupContext::is_blind`]).
    fn start_over(&mut self) {
        if let Ok(new) = client(&mut self.kafka) {
            let old = std::mem::replace(&mut self.client, Arc::new(new));
            // It waits for its threads.
            tokio::task::spawn_blocking(move || drop(old));
        }
    }

    /// On another number of partitions a key's events would move to another partition and could
    /// overtake one another.
    fn verify(&self, metadata: &Metadata) -> anyhow::Result<()> {
        let expected = self.kafka.config().partitions;
        for name in &self.topics {
            let found = metadata.topics().iter().find(|topic| topic.name() == name);
            match found.map_or(0, |topic| topic.partitions().len()) {
                // Topics that we may not describe are left out of the answer.
                0 => bail!("the topic {name} does not exist, or not for us"),
                found if found != expected => {
                    bail!(
                        "the topic {name} has {found} partitions, kafka.partitions says {expected}"
                    )
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A producer, because only clients with a main queue of their own tell why they cannot connect.
fn client(kafka: &mut Kafka) -> KafkaResult<Client> {
    kafka.client().create_with_context(LastError::default())
}

fn ask(client: &Client, timeout: Duration) -> Result<Metadata, String> {
    let answer = client.client().fetch_metadata(None, timeout);
    client.poll(EVENTS);
    let context = client.context();
    match answer {
        Ok(metadata) => {
            context.clear();
            Ok(metadata)
        }
        Err(error) => Err(context.reason().unwrap_or_else(|| error.to_string())),
    }
}

/// The newest reason for which a connection failed. librdkafka tells one only once, however often
/// it fails.
#[derive(Default)]
struct LastError(Mutex<Option<String>>);

impl LastError {
    fn reason(&self) -> Option<String> {
        self.slot().clone()
    }

    fn clear(&self) {
        *self.slot() = None;
    }

    fn slot(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for LastError {
    fn error(&self, error: KafkaError, reason: &str) {
        // That they are all down follows, and says less.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.slot() = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for LastError {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
