#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use portolan_proto::Topic;
use portolan_testkit::{TestKafka, free_port};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier},
    client::DefaultClientContext,
};

use crate::support::Directory;

/// The shared test broker, which has neither TLS nor an authorizer, and a prefix for topics.
async fn plain() -> (TestKafka, String, String) {
    let kafka = TestKafka::new(&[Topic::Order]).await;
    let (brokers, prefix, _) = kafka.config_parts();
    (kafka, brokers, prefix)
}

async fn settings(brokers: &str, topic: &str) -> ConfigResource {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topic = ResourceSpecifier::Topic(topic);
    let described = admin.describe_configs([&topic], &AdminOptions::new()).await.unwrap();
    described.into_iter().next().unwrap().unwrap()
}

async fn remove(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_get_the_shops_settings_and_their_own_over_them() {
    let (_kafka, brokers, prefix) = plain().await;
    let (directory, topic) = (Directory::new(), format!("{prefix}a"));
    let config = format!(
        "brokers = '{brokers}'\npartitions = 3\n[[topic]]\nname = '{topic}'\n\
         settings = {{ 'retention.ms' = '86400000' }}"
    );
    let summary = directory.run(&config).await.summary().to_owned();
    assert_eq!(summary, "Kafka: topics 1 (1 new), access rules 0 (0 new, 0 removed)");
    let settings = settings(&brokers, &topic).await;
    let value = |name| settings.get(name).unwrap().value.clone().unwrap();
    assert_eq!(
        (value("retention.ms").as_str(), value("segment.ms").as_str()),
        ("86400000", "86400000")
    );
    assert_eq!(value("cleanup.policy"), "delete");

    let more = config.replace("partitions = 3", "partitions = 4");
    let run = directory.run(&more).await;
    assert_eq!(run.code, Some(1));
    let expected =
        format!("error: cannot configure Kafka: the topic {topic} has 3 partitions, not 4\n");
    assert_eq!(run.errors, expected);
    remove(&brokers, &topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_one_line() {
    let (_kafka, brokers, _) = plain().await;
    let directory = Directory::new();
    let nobody = format!("127.0.0.1:{}", free_port());
    let cases = [
        (
            format!("brokers = '{nobody}'\ntimeout_secs = 1"),
            format!(
                "error: cannot configure Kafka: no answer from Kafka at {nobody}: Connection refused"
            ),
        ),
        (
            format!("brokers = '{brokers}'\ntopic = []\n[[principal]]\nname = 'a'\ngroups = ['g']"),
            "error: cannot configure Kafka: Kafka does not describe access rules: SecurityDisabled"
                .to_owned(),
        ),
        (
            "brokers = 'k:1'\ntls_identity = '/none/tls.pem'\ntls_roots = '/none/ca'".to_owned(),
            "error: cannot configure Kafka: cannot use /none/ca: No such file".to_owned(),
        ),
        ("brokers = ''".to_owned(), "error: cannot use ".to_owned()),
    ];
    for (config, expected) in cases {
        let run = directory.run(&config).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.errors.starts_with(&expected), "{expected} instead of {}", run.errors);
        assert_eq!(run.errors.lines().count(), 1, "{}", run.errors);
    }
}
