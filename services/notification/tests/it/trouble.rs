//! Mail servers and databases that misbehave: what happened to one message must not touch another.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use portolan_kernel::OrderId;
use portolan_notification::SmtpConfig;
use portolan_proto::events::v1::NotificationFailed;
use portolan_testkit::eventually;
use prost::Message as _;

use crate::{
    mails::to,
    smtp::MailServer,
    support::{Office, PATIENCE, new_order},
};

/// Stores messages that wait for the worker, the first one first in the queue.
async fn enqueue(office: &Office, orders: &[OrderId]) {
    let orders: Vec<uuid::Uuid> = orders.iter().map(|order| order.0).collect();
    sqlx::query(
        "INSERT INTO notification
             (order_id, kind, state, message_id, user_id, reason, next_attempt_at, trace)
         SELECT o.id, 'cancelled', 'PENDING', o.id::text || '.cancelled@portolan', 'alice',
             'timeout', clock_timestamp() - make_interval(secs => 1000 - o.n), ''
         FROM unnest($1::uuid[]) WITH ORDINALITY AS o (id, n)",
    )
    .bind(orders)
    .execute(office.pool())
    .await
    .unwrap();
}

fn message_id(order: OrderId) -> String {
    format!("<{order}.cancelled@portolan>")
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_taken_for_the_next_messages() {
    let office = Office::open().await;
    let server = MailServer::start(&["late 250 taken", "550 no such user"]).await;
    let smtp = SmtpConfig {
        timeout_ms: 300,
        concurrency: 1,
        retry_base_ms: 3_600_000,
        retry_cap_ms: 3_600_000,
        ..to(&server)
    };
    let replica = office.replica_with(smtp).await;
    let (slow, refused) = (new_order(), new_order());
    office.cancel(slow).await;
    eventually(PATIENCE, "the first attempt timed out", async || {
        let sql = "SELECT count(*) FROM notification
                   WHERE order_id = $1 AND state = 'PENDING' AND last_error LIKE '%too long%'";
        (office.count(sql, slow.0).await == 1).then_some(())
    })
    .await;
    server.answer_the_late();
    eventually(PATIENCE, "the late answer", async || (server.accepted().len() == 1).then_some(()))
        .await;

    office.cancel(refused).await;
    eventually(PATIENCE, "the second message's end", async || {
        let [(_, state)] = office.stored(refused).await.try_into().ok()?;
        assert_ne!(state, "SENT", "a refused message counts as sent");
        (state == "FAILED").then_some(())
    })
    .await;
    assert_eq!(server.attempts(), [message_id(slow), message_id(refused)]);
    assert_eq!((office.handed_over(slow).await, office.handed_over(refused).await), (0, 0));
    replica.stop().await;
}

#[tokio::test]
async fn control_characters_in_an_answer_reach_neither_the_database_nor_the_event() {
    let office = Office::open().await;
    let server = MailServer::start(&["550 no\0such\u{1b}[31m user"]).await;
    let replica = office.replica_with(to(&server)).await;
    let order = new_order();
    office.cancel(order).await;
    office.until_stored(order, "cancelled", "FAILED").await;
    let told = office.published(order).await;
    let event = NotificationFailed::decode(told[0].payload.as_slice()).unwrap();
    assert!(event.error.contains("no\u{fffd}such\u{fffd}[31m user"), "{:?}", event.error);
    replica.stop().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_written_down_holds_up_no_other() {
    let office = Office::open().await;
    let orders: Vec<_> = (0..20).map(|_| new_order()).collect();
    let (unwritable, others) = (orders[10], [&orders[..10], &orders[11..]].concat());
    let constraint = format!("ALTER TABLE mail_ledger ADD CHECK (order_id <> '{unwritable}')");
    sqlx::query(sqlx::AssertSqlSafe(constraint)).execute(office.pool()).await.unwrap();
    enqueue(&office, &orders).await;
    let server = MailServer::start(&[]).await;
    let replica = office.replica_with(SmtpConfig { concurrency: 32, ..to(&server) }).await;

    for order in &others {
        office.until_stored(*order, "cancelled", "SENT").await;
    }
    // The process goes on.
    let later = new_order();
    office.cancel(later).await;
    office.until_stored(later, "cancelled", "SENT").await;
    let attempts = server.attempts();
    for order in others.iter().chain([&later]) {
        let sent = attempts.iter().filter(|id| **id == message_id(*order)).count();
        assert_eq!(sent, 1, "{order} was sent again");
    }
    assert_eq!(office.handed_over(unwritable).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn an_accepted_message_is_written_down_before_a_slower_one_is_answered() {
    let office = Office::open().await;
    let orders = [new_order(), new_order()];
    enqueue(&office, &orders).await;
    let server = MailServer::start(&["late 250 taken"]).await;
    // Longer than this test waits for anything.
    let replica = office.replica_with(SmtpConfig { timeout_ms: 120_000, ..to(&server) }).await;
    eventually(PATIENCE, "both were handed over", async || {
        (server.attempts().len() == 2).then_some(())
    })
    .await;
    let (slow, fast) = match orders {
        [a, b] if server.attempts()[0] == message_id(a) => (a, b),
        [a, b] => (b, a),
    };
    office.until_stored(fast, "cancelled", "SENT").await;
    assert_eq!(office.stored(slow).await, [("cancelled".to_owned(), "SENDING".to_owned())]);
    server.answer_the_late();
    office.until_stored(slow, "cancelled", "SENT").await;
    replica.stop().await;
}

#[tokio::test]
async fn what_waits_for_the_mail_server_is_not_taken_by_a_replica_without_one() {
    let office = Office::open().await;
    let waiting = new_order();
    enqueue(&office, &[waiting]).await;
    let replica = office.replica().await;
    let recorded = new_order();
    office.cancel(recorded).await;
    office.until_stored(recorded, "cancelled", "SENT").await;
    replica.stop().await;
    assert_eq!(office.stored(waiting).await, [("cancelled".to_owned(), "PENDING".to_owned())]);

    let server = MailServer::start(&[]).await;
    let replica = office.replica_with(to(&server)).await;
    office.until_stored(waiting, "cancelled", "SENT").await;
    assert_eq!(server.attempts(), [message_id(waiting)]);
    let via = "SELECT count(*) FROM mail_ledger WHERE order_id = $1 AND via = 'smtp'";
    assert_eq!(office.count(via, waiting.0).await, 1);
    replica.stop().await;
}
