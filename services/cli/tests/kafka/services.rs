#![expect(clippy::unwrap_used, reason = "a test's steps must succeed")]

use std::sync::Arc;

use portolan_kernel::{IdGen as _, OrderId};
use portolan_messaging::{
    Group, Handler, HandlerError, KafkaConfig, MIGRATOR, Outgoing, Record, open, outbox,
};
use portolan_proto::{
    Topic,
    events::v1::{OrderConfirmed, PaymentCaptured},
};
use portolan_runtime::database;
use portolan_runtime::telemetry::TraceContext;
use portolan_testkit::{PATIENCE, SeqIds, TestDb, context, eventually};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::support::{Cluster, PRINCIPALS};

const ORDER: Group = Group { id: 1, name: "order" };
const PAYMENT: Group = Group { id: 3, name: "payment" };

/// Answers every event with one of its own.
struct Answers(SeqIds);

impl Handler for Answers {
    type Applied = ();

    async fn apply(&self, tx: &mut PgConnection, records: &[Record]) -> Result<(), HandlerError> {
        for record in records {
            let message: OrderConfirmed = record.decode()?;
            let answer =
                PaymentCaptured { order_id: message.order_id, ..PaymentCaptured::default() };
            outbox::append(tx, &[event(&self.0, record.key, &answer)]).await?;
        }
        Ok(())
    }
}

fn event<E: portolan_proto::Event>(ids: &SeqIds, key: OrderId, message: &E) -> Outgoing {
    let trace = TraceContext::default();
    Outgoing::new(ids.next(), key, 1, OffsetDateTime::UNIX_EPOCH, &trace, message)
}

fn config(cluster: &Cluster, name: &str) -> KafkaConfig {
    let (identity, roots) = cluster.files(name);
    KafkaConfig {
        partitions: 3,
        tls_identity: Some(identity),
        tls_roots: Some(roots),
        ..KafkaConfig::new(cluster.kafka.address())
    }
}

/// The number of records of a topic, as the super user sees it.
async fn count(cluster: &Cluster, topic: &'static str) -> i64 {
    let client: BaseConsumer = cluster.kafka.super_user().create().unwrap();
    let asking = tokio::task::spawn_blocking(move || {
        let high = |partition| client.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
        (0..3).map(high).sum()
    });
    asking.await.unwrap()
}

/// The start-up check, the relay with its idempotent producer, and a group member.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_needs_no_more_rights_than_it_gets() {
    let cluster = Cluster::new().await;
    assert_eq!(cluster.configure(PRINCIPALS).await.code, Some(0));
    let (db, ids, ctx) = (TestDb::new(&[&MIGRATOR]).await, SeqIds::new(), context());
    let kafka = config(&cluster, "payment");
    let payment = open(&ctx, &db.config(), &kafka, &MIGRATOR, true).await.unwrap();
    let topics = [Topic::Order, Topic::Inventory];
    payment.consume(&ctx, PAYMENT, &topics, Arc::new(Answers(ids.clone()))).await.unwrap();

    let (order_db, order_ctx) = (TestDb::new(&[&MIGRATOR]).await, context());
    let kafka = config(&cluster, "order");
    let order = open(&order_ctx, &order_db.config(), &kafka, &MIGRATOR, false).await.unwrap();
    let key = OrderId(ids.next());
    let message = OrderConfirmed { order_id: key.to_string(), user_id: "u".to_owned() };
    let mut tx = database::begin(&order.pool).await.unwrap();
    outbox::append(&mut tx, &[event(&ids, key, &message)]).await.unwrap();
    tx.commit().await.unwrap();
    eventually(PATIENCE, "the answer is on the topic", async || {
        (count(&cluster, "portolan.payment.v1").await == 1).then_some(())
    })
    .await;
    ctx.tasks.soft().cancel();

    // One right less: the order service may not read what notification writes.
    let kafka = KafkaConfig { connect_timeout_secs: 5, ..kafka };
    let greedy = open(&order_ctx, &order_db.config(), &kafka, &MIGRATOR, false).await.unwrap();
    let topics = [Topic::Order, Topic::Notification];
    let refused = greedy.consume(&order_ctx, ORDER, &topics, Arc::new(Answers(ids))).await;
    let line = refused.unwrap_err().to_string();
    assert!(line.contains("portolan.notification.v1 does not exist, or not for us"), "{line}");
    order_ctx.tasks.soft().cancel();
}
