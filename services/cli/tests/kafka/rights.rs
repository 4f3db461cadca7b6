#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use std::time::{Duration, Instant};

use portolan_testkit::PATIENCE;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord},
};

use crate::support::{Cluster, PRINCIPALS};

/// Sends one record as the relay does, with an idempotent producer.
async fn send(mut client: ClientConfig, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let producer: FutureProducer = client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "30000")
        .create()
        .unwrap();
    let sent = producer.send(FutureRecord::to(topic).key("k").payload("p"), PATIENCE).await;
    match sent {
        Ok(_) => Ok(()),
        Err((error, _)) => Err(error.rdkafka_error_code().unwrap()),
    }
}

/// Reads partitions that it has chosen itself, as the audit does. librdkafka asks for the group all
/// the same.
async fn read(mut client: ClientConfig, topic: &str) -> Result<Vec<u8>, RDKafkaErrorCode> {
    let consumer: BaseConsumer = client
        .set("group.id", "portolan-audit")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..3 {
        partitions.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    first(consumer).await
}

/// Joins a group and waits for a first record, or for a first refusal.
async fn receive(
    mut client: ClientConfig,
    group: &str,
    topic: &str,
) -> Result<Vec<u8>, RDKafkaErrorCode> {
    let consumer: BaseConsumer = client
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    first(consumer).await
}

async fn first(consumer: BaseConsumer) -> Result<Vec<u8>, RDKafkaErrorCode> {
    let polling = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(polled) = consumer.poll(Duration::from_millis(100)) {
                return Some(polled.map(|record| record.payload().unwrap().to_vec()));
            }
        }
        None
    });
    let polled = polling.await.unwrap();
    // None is neither a record nor a refusal in time.
    polled.unwrap().map_err(|error| error.rdkafka_error_code().unwrap())
}

async fn create(client: ClientConfig, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let created = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    created.into_iter().next().unwrap().map(drop).map_err(|(_, code)| code)
}

/// The topics that somebody sees.
async fn visible(client: ClientConfig) -> Result<Vec<String>, KafkaError> {
    let client: BaseConsumer = client.create().unwrap();
    let asking = tokio::task::spawn_blocking(move || {
        let metadata = client.fetch_metadata(None, Duration::from_secs(10))?;
        let mut names: Vec<String> =
            metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
        names.sort();
        Ok(names)
    });
    asking.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_may_do_what_is_configured_and_nothing_else() {
    let cluster = Cluster::new().await;
    let summary = cluster.configure(PRINCIPALS).await.summary().to_owned();
    assert_eq!(summary, "Kafka: topics 8 (8 new), access rules 25 (25 new, 0 removed)");
    let (order, payment) = (cluster.client("order"), cluster.client("payment"));
    let ours = "portolan.payment";

    // What the services do.
    assert_eq!(send(order.clone(), "portolan.order.v1").await, Ok(()));
    let received = receive(payment.clone(), ours, "portolan.order.v1").await;
    assert_eq!(received.as_deref(), Ok(b"p".as_slice()));
    let seen = ["dlq.payment", "inventory", "order", "payment"];
    let seen: Vec<String> = seen.iter().map(|name| format!("portolan.{name}.v1")).collect();
    assert_eq!(visible(payment.clone()).await.unwrap(), seen);

    let auditor = cluster.client("audit");
    assert_eq!(read(auditor, "portolan.order.v1").await.as_deref(), Ok(b"p".as_slice()));

    // What they do not.
    let topic_refused = RDKafkaErrorCode::TopicAuthorizationFailed;
    let group_refused = RDKafkaErrorCode::GroupAuthorizationFailed;
    assert_eq!(send(order.clone(), "portolan.payment.v1").await, Err(topic_refused), "read only");
    assert_eq!(send(order.clone(), "portolan.dlq.payment.v1").await, Err(topic_refused));
    let other_topic = receive(payment.clone(), ours, "portolan.notification.v1").await;
    assert_eq!(other_topic, Err(topic_refused));
    let own_topic = receive(payment.clone(), ours, "portolan.payment.v1").await;
    assert_eq!(own_topic, Err(topic_refused), "write only");
    let other_group = receive(payment.clone(), "portolan.order", "portolan.order.v1").await;
    assert_eq!(other_group, Err(group_refused));
    assert_eq!(create(order, "portolan.mine.v1").await, Err(topic_refused));

    // Somebody whom nobody named, and somebody who shows nothing.
    assert_eq!(visible(cluster.client("stranger")).await.unwrap(), [""; 0]);
    let mut nobody = ClientConfig::new();
    nobody
        .set("bootstrap.servers", cluster.kafka.address())
        .set("security.protocol", "ssl")
        .set("ssl.ca.pem", cluster.ca.roots());
    assert!(visible(nobody).await.is_err(), "a connection without a certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_changes_nothing_and_a_changed_list_gives_and_takes() {
    let mut cluster = Cluster::new().await;
    let config = cluster.config(PRINCIPALS);
    assert_eq!(cluster.directory.run(&config).await.code, Some(0));

    // The command waits for a broker that is not there yet.
    cluster.kafka.kill();
    let waiting = cluster.directory.start(&config);
    cluster.kafka.run().await;
    let again = crate::support::Run::of(waiting.wait_with_output().await.unwrap());
    assert_eq!(
        again.summary(),
        "Kafka: topics 8 (0 new), access rules 25 (0 new, 0 removed)",
        "{again:?}"
    );

    // The order service writes no dead letters any more, but notifications.
    let changed = PRINCIPALS.replace("portolan.dlq.order.v1", "portolan.notification.v1");
    let run = cluster.configure(&changed).await;
    assert_eq!(run.summary(), "Kafka: topics 8 (0 new), access rules 25 (2 new, 2 removed)");
    let order = cluster.client("order");
    let send = async |topic| send(order.clone(), topic).await;
    assert_eq!(send("portolan.notification.v1").await, Ok(()));
    let refused = Err(RDKafkaErrorCode::TopicAuthorizationFailed);
    assert_eq!(send("portolan.dlq.order.v1").await, refused);

    // Whoever is not named any more keeps what they have.
    let (_, only_audit) = PRINCIPALS.split_at(PRINCIPALS.rfind("[[principal]]").unwrap());
    let run = cluster.configure(only_audit).await;
    assert_eq!(run.summary(), "Kafka: topics 8 (0 new), access rules 4 (0 new, 0 removed)");
    assert_eq!(send("portolan.order.v1").await, Ok(()));
}
