use std::collections::BTreeMap;

use kafka_protocol::{
    ResponseError,
    messages::{
        CreateTopicsRequest, MetadataRequest, TopicName,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        metadata_request::MetadataRequestTopic,
        metadata_response::MetadataResponseTopic,
    },
    protocol::StrBytes,
};
use portolan_messaging::topics;
use tokio::time::Instant;

use super::{
    NEWS_TRAVELS, PAUSE,
    config::{Config, Topic},
    connection::Connection,
    error::KafkaError,
};

/// How long the controller may take.
const TIMEOUT_MS: i32 = 20_000;

/// Makes the topics that are missing; the number of them.
///
/// # Errors
/// Kafka refuses, or a topic has another number of partitions than configured.
pub(super) async fn create_missing(
    kafka: &mut Connection,
    config: &Config,
) -> Result<usize, KafkaError> {
    let missing = missing(kafka, config).await?;
    if missing.is_empty() {
        return Ok(0);
    }
    let topics = missing.iter().map(|topic| creatable(topic, config)).collect();
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(TIMEOUT_MS);
    let answer = kafka.call(&request).await?;
    for topic in &answer.topics {
        // Somebody else was faster.
        if topic.error_code == ResponseError::TopicAlreadyExists.code() {
            continue;
        }
        let what = format!("create the topic {}", topic.name.as_str());
        KafkaError::check(topic.error_code, topic.error_message.as_deref(), &what)?;
    }
    until_heard(kafka, config).await?;
    Ok(missing.len())
}

/// The controller makes topics, and the brokers hear of them a moment later.
async fn until_heard(kafka: &mut Connection, config: &Config) -> Result<(), KafkaError> {
    let deadline = Instant::now() + NEWS_TRAVELS;
    while !missing(kafka, config).await?.is_empty() {
        if Instant::now() > deadline {
            return Err(KafkaError::Protocol("the broker has not heard of the topics".to_owned()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn missing<'a>(
    kafka: &mut Connection,
    config: &'a Config,
) -> Result<Vec<&'a Topic>, KafkaError> {
    let named = |topic: &Topic| MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(config.topics().iter().map(named).collect()))
        .with_allow_auto_topic_creation(false);
    let answer = kafka.call(&request).await?;
    let known: BTreeMap<&str, &MetadataResponseTopic> = answer
        .topics
        .iter()
        .filter_map(|topic| Some((topic.name.as_ref()?.as_str(), topic)))
        .collect();
    let mut missing = Vec::new();
    for topic in config.topics() {
        match known.get(topic.name.as_str()) {
            Some(found) if found.error_code != ResponseError::UnknownTopicOrPartition.code() => {
                verify(topic, found, config.partitions)?;
            }
            _ => missing.push(topic),
        }
    }
    Ok(missing)
}

fn verify(topic: &Topic, found: &MetadataResponseTopic, wanted: i32) -> Result<(), KafkaError> {
    KafkaError::check(found.error_code, None, &format!("describe the topic {}", topic.name))?;
    let found = found.partitions.len();
    if usize::try_from(wanted) == Ok(found) {
        return Ok(());
    }
    Err(KafkaError::Partitions { topic: topic.name.clone(), found, wanted })
}

fn creatable(topic: &Topic, config: &Config) -> CreatableTopic {
    let mut settings: BTreeMap<&str, &str> = topics::SETTINGS.into_iter().collect();
    settings.extend(topic.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let setting = |(key, value): (&str, &str)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(config.partitions)
        .with_replication_factor(config.replication_factor)
        .with_configs(settings.into_iter().map(setting).collect())
}

fn name(topic: &Topic) -> TopicName {
    TopicName(text(&topic.name))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
