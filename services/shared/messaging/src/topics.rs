use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use rdkafka::{
    admin::AdminClient, client::DefaultClientContext, config::FromClientConfig as _,
    error::KafkaResult, metadata::Metadata,
};
use tokio::time::Instant;

use crate::KafkaConfig;

const TIMEOUT: Duration = Duration::from_secs(10);
const NEWS_TRAVELS: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// The dead-letter topic of a group, without the deployment's prefix.
pub fn dead_letter_topic(group: &str) -> String {
    format!("portolan.dlq.{group}.v1")
}

/// Checks that the topics are there with the configured number of partitions. On another number
/// a key's events would move to another partition and could overtake one another, so a service
/// refuses to start.
///
/// # Errors
/// No broker answers within ten seconds, or a topic is not as it must be.
pub async fn verify_topics(kafka: &KafkaConfig, names: &[&str]) -> anyhow::Result<()> {
    let client: AdminClient<DefaultClientContext> = AdminClient::from_config(&kafka.client())?;
    let client = Arc::new(client);
    let started = Instant::now();
    loop {
        let metadata = fetch(Arc::clone(&client))
            .await?
            .with_context(|| format!("kafka.brokers: no broker answers at {}", kafka.brokers))?;
        let verdict = names
            .iter()
            .try_for_each(|name| verify(&metadata, &kafka.topic(name), kafka.partitions));
        // A broker hears of a new topic a moment after it was made.
        if verdict.is_ok() || started.elapsed() > NEWS_TRAVELS {
            return verdict;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn fetch(
    client: Arc<AdminClient<DefaultClientContext>>,
) -> anyhow::Result<KafkaResult<Metadata>> {
    Ok(tokio::task::spawn_blocking(move || client.inner().fetch_metadata(None, TIMEOUT)).await?)
}

fn verify(metadata: &Metadata, name: &str, expected: usize) -> anyhow::Result<()> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == name);
    match topic.map(|topic| topic.partitions().len()) {
        None | Some(0) => bail!("the topic {name} does not exist"),
        Some(found) if found != expected => {
            bail!("the topic {name} has {found} partitions, kafka.partitions says {expected}")
        }
        Some(_) => Ok(()),
    }
}
