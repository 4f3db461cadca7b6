use portolan_notification::SmtpConfig;
use portolan_proto::{
    Event as _,
    events::v1::{NotificationFailed, NotificationSent},
    notification::v1::NotificationStatus,
};
use portolan_testkit::{eventually, free_port};
use prost::Message as _;

use crate::{
    smtp::MailServer,
    support::{Office, PATIENCE, new_order},
};

pub(crate) fn to(server: &MailServer) -> SmtpConfig {
    SmtpConfig {
        url: Some(server.url()),
        recipient_template: "{user}@customers.test".to_owned(),
        retry_base_ms: 10,
        retry_cap_ms: 50,
        ..SmtpConfig::default()
    }
}

#[tokio::test]
async fn a_message_refused_for_now_is_sent_later_under_the_same_id() {
    let office = Office::open().await;
    let server = MailServer::start(&["451 try later", "452 try later", "250 taken"]).await;
    let replica = office.replica_with(to(&server)).await;
    let order = new_order();
    office.complete(order).await;
    office.until_stored(order, "confirmed", "SENT").await;

    let id = format!("<{order}.confirmed@portolan>");
    assert_eq!(server.attempts(), [id.as_str(); 3]);
    let mails = server.accepted();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipient, "alice@customers.test");
    assert_eq!(mails[0].header("Message-ID"), Some(id.as_str()));
    assert!(mails[0].text.contains("\r\nYou paid GBP 12.34.\r\n"), "{}", mails[0].text);
    assert_eq!(office.handed_over(order).await, 1);
    let told = office.published(order).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].header("ce_type"), Some(NotificationSent::TYPE));
    replica.stop().await;
}

#[tokio::test]
async fn a_message_refused_for_good_is_given_up_and_told() {
    let office = Office::open().await;
    let server = MailServer::start(&["550 no such user alice@customers.test"]).await;
    let mut replica = office.replica_with(to(&server)).await;
    let order = new_order();
    office.cancel(order).await;
    office.until_stored(order, "cancelled", "FAILED").await;

    assert_eq!(server.attempts().len(), 1);
    assert_eq!(office.handed_over(order).await, 0);
    let shown = replica.list(&order.to_string()).await.unwrap();
    assert_eq!(shown[0].status(), NotificationStatus::Failed);
    let told = office.published(order).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].header("ce_type"), Some(NotificationFailed::TYPE));
    let event = NotificationFailed::decode(told[0].payload.as_slice()).unwrap();
    assert!(event.error.contains("550"), "{}", event.error);
    assert!(!event.error.contains("alice"), "an address left in an event: {}", event.error);
    replica.stop().await;
}

#[tokio::test]
async fn a_mail_server_that_comes_back_gets_what_waited() {
    let office = Office::open().await;
    let nowhere = SmtpConfig {
        url: Some(format!("smtp://127.0.0.1:{}", free_port())),
        retry_base_ms: 10,
        retry_cap_ms: 50,
        ..SmtpConfig::default()
    };
    let replica = office.replica_with(nowhere).await;
    let order = new_order();
    office.complete(order).await;
    eventually(PATIENCE, "two attempts", async || {
        let sql = "SELECT coalesce(max(attempt), 0)::bigint FROM notification WHERE order_id = $1";
        (office.count(sql, order.0).await >= 2).then_some(())
    })
    .await;
    replica.stop().await;
    assert_eq!(office.handed_over(order).await, 0);

    let server = MailServer::start(&[]).await;
    let replica = office.replica_with(to(&server)).await;
    office.until_stored(order, "confirmed", "SENT").await;
    assert_eq!(server.accepted().len(), 1);
    replica.stop().await;
}

#[tokio::test]
async fn the_messages_of_a_crashed_sender_are_taken_over_when_its_lease_ends() {
    let office = Office::open().await;
    let order = new_order();
    // What a process that was killed while sending leaves behind.
    sqlx::query(
        "INSERT INTO notification
             (order_id, kind, state, message_id, user_id, reason, attempt, lease_until, trace)
         VALUES ($1, 'cancelled', 'SENDING', $1::text || '.cancelled@portolan', 'alice', 'timeout',
                 1, clock_timestamp() + interval '1 hour', '')",
    )
    .bind(order.0)
    .execute(office.pool())
    .await
    .unwrap();
    let server = MailServer::start(&[]).await;
    let replica = office.replica_with(to(&server)).await;

    // While the lease lasts nobody else sends: this one is after it in the queue and is sent.
    let other = new_order();
    office.complete(other).await;
    office.until_stored(other, "confirmed", "SENT").await;
    assert_eq!(server.attempts(), [format!("<{other}.confirmed@portolan>")]);

    sqlx::query("UPDATE notification SET lease_until = clock_timestamp() WHERE order_id = $1")
        .bind(order.0)
        .execute(office.pool())
        .await
        .unwrap();
    office.until_stored(order, "cancelled", "SENT").await;
    assert_eq!(server.attempts()[1], format!("<{order}.cancelled@portolan>"));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_send_every_message_once() {
    const ORDERS: usize = 50;
    let office = Office::open().await;
    let server = MailServer::start(&[]).await;
    let one = office.replica_with(to(&server)).await;
    let two = office.replica_with(to(&server)).await;
    let orders: Vec<_> = (0..ORDERS).map(|_| new_order()).collect();
    futures::future::join_all(orders.iter().map(|order| office.complete(*order))).await;
    for order in &orders {
        office.until_stored(*order, "confirmed", "SENT").await;
    }
    let mut ids: Vec<String> = server.attempts();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), server.attempts().len()), (ORDERS, ORDERS));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_user_whose_id_makes_no_address_is_given_up() {
    let office = Office::open().await;
    let server = MailServer::start(&[]).await;
    let smtp = to(&server);
    let replica = office.replica_with(smtp).await;
    let order = new_order();
    let mut event = crate::support::completed(order);
    event.user_id = "not an@address".to_owned();
    office.publish(crate::support::new_id(), order, 4, &event).await;
    office.until_stored(order, "confirmed", "FAILED").await;
    assert_eq!(server.attempts(), [""; 0]);
    replica.stop().await;
}
