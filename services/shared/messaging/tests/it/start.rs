#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use portolan_messaging::KafkaConfig;
use portolan_runtime::CheckReport;
use portolan_testkit::{eventually, free_port};

use crate::support::{Bench, PATIENCE, Shop};

/// Why the check `kafka` fails, if it does.
fn reason(shop: &Shop) -> Option<String> {
    match shop.ctx.readiness.report().checks.get("kafka")? {
        CheckReport::Ok => None,
        CheckReport::Failed { reason } => Some(reason.clone()),
    }
}

async fn refusal(shop: &Shop, config: &KafkaConfig) -> String {
    let config = KafkaConfig { connect_timeout_secs: 1, ..config.clone() };
    shop.start(&config, 0).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_refuses_topics_with_another_number_of_partitions() {
    let bench = Bench::new().await;
    let config = KafkaConfig { partitions: bench.config.partitions + 1, ..bench.config.clone() };
    let refusal = refusal(&bench, &config).await;
    assert!(refusal.contains("has 3 partitions, kafka.partitions says 4"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_refuses_to_start_without_its_topics_or_without_a_broker() {
    let bench = Bench::new().await;
    let elsewhere = KafkaConfig { topic_prefix: "elsewhere.".to_owned(), ..bench.config.clone() };
    let line = refusal(&bench, &elsewhere).await;
    assert!(line.contains("elsewhere.portolan.order.v1 does not exist"), "{line}");
    let nowhere = KafkaConfig::new(format!("127.0.0.1:{}", free_port()));
    let line = refusal(&bench, &nowhere).await;
    assert!(line.starts_with("kafka.brokers: no broker answers at 127.0.0.1:"), "{line}");
    assert!(line.contains("Connection refused"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_waits_for_its_topics_and_says_so_meanwhile() {
    let mut bench = Bench::new().await;
    let config = KafkaConfig {
        topic_prefix: format!("{}later.", bench.config.topic_prefix),
        connect_timeout_secs: 60,
        ..bench.config.clone()
    };
    let late = ["later.portolan.order.v1", "later.portolan.dlq.test.v1"];
    let shop = Shop::new().await;
    let start = shop.start(&config, 0);
    let topics = async {
        eventually(PATIENCE, "the check names the topic", async || {
            reason(&shop).filter(|reason| reason.contains("order.v1 does not exist"))
        })
        .await;
        bench.kafka.create(&late).await;
    };
    let (started, ()) = tokio::join!(start, topics);
    started.unwrap();
    assert_eq!(reason(&shop), None);
}
