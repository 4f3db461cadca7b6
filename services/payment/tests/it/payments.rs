//! The service between Kafka and the provider: one order at a time, every way it can go.

use std::time::Duration;

use portolan_payment::domain::Status;
use portolan_proto::{
    events::v1::{PaymentAuthorized, PaymentDeclined},
    payment::v1::{GetPaymentRequest, PaymentStatus, payment_service_client::PaymentServiceClient},
};
use portolan_runtime::{Context, grpc};
use portolan_testkit::{eventually, free_port};
use prost::Message as _;
use tonic::Code;

use crate::support::{AMOUNT, PATIENCE, Psp, Shop, TRACE_ID, kind, new_order, now};

#[tokio::test]
async fn an_approved_payment_is_captured_once_the_order_is_confirmed() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.reserved(order, "tok_ok").await;
    shop.reaches(order, Status::Authorized).await;
    assert_eq!(shop.told(order).await, ["authorized"]);
    assert_eq!(psp.operation(&format!("cap:{order}")).await, None);

    shop.confirmed(order).await;
    let payment = shop.reaches(order, Status::Captured).await;
    assert_eq!(payment.token, None);
    let records = shop.records(order).await;
    let told: Vec<_> = records
        .iter()
        .map(|record| (kind(record), record.header("ce_aggregateversion").unwrap()))
        .collect();
    assert_eq!(told, [("authorized".to_owned(), "2"), ("captured".to_owned(), "4")]);
    for record in &records {
        assert!(record.header("traceparent").unwrap().contains(TRACE_ID));
    }
    let event = PaymentAuthorized::decode(records[0].payload.as_slice()).unwrap();
    assert_eq!(event.amount.unwrap().minor_units, AMOUNT);
    assert_eq!(Some(event.psp_reference), payment.reference);
    let ledger = [("auth".to_owned(), AMOUNT), ("capture".to_owned(), AMOUNT)];
    assert_eq!(shop.ledger(order).await, ledger);
    assert_eq!(psp.outcome(&format!("cap:{order}")).await.as_deref(), Some("captured"));
    shown_over_grpc(&shop.replicas[0], &order.to_string()).await;
    shop.stop().await;
    psp.stop().await;
}

async fn shown_over_grpc(ctx: &Context, order: &str) {
    let url = format!("http://{}", ctx.local_addr().unwrap());
    let mut client = PaymentServiceClient::new(grpc::channel(ctx, &url, "payment").unwrap());
    let mut get = async |order: &str| {
        client.get_payment(GetPaymentRequest { order_id: order.to_owned() }).await
    };
    let payment = get(order).await.unwrap().into_inner().payment.unwrap();
    assert_eq!(payment.status(), PaymentStatus::Captured);
    assert_eq!(payment.amount.unwrap().minor_units, AMOUNT);
    assert_eq!(payment.captured.unwrap().minor_units, AMOUNT);
    assert_eq!(get(&new_order().to_string()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(get("order 1").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_declined_payment_is_told_and_its_cancellation_is_not() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.reserved(order, "tok_declined").await;
    shop.reaches(order, Status::Declined).await;
    let records = shop.records(order).await;
    let event = PaymentDeclined::decode(records[0].payload.as_slice()).unwrap();
    assert_eq!(event.code, "insufficient_funds");

    shop.cancelled(order).await;
    follow_up(&shop).await;
    assert_eq!(shop.told(order).await, ["declined"]);
    assert_eq!(psp.operations_of(order).await, 1, "nothing to void");
    assert_eq!(shop.ledger(order).await, []);
    shop.stop().await;
    psp.stop().await;
}

/// Waits until orders of every partition that were written from now on are handled, so that
/// everything written before is too.
async fn follow_up(shop: &Shop) {
    let orders: Vec<_> = (0..24).map(|_| new_order()).collect();
    for order in &orders {
        // A tombstone costs nothing, and both topics must have been read up to here.
        shop.cancelled(*order).await;
    }
    for order in &orders {
        shop.reaches(*order, Status::Cancelled).await;
    }
    let orders: Vec<_> = (0..24).map(|_| new_order()).collect();
    for order in &orders {
        shop.reserved_until(*order, "tok_ok", now() - Duration::from_secs(1)).await;
    }
    for order in &orders {
        shop.reaches(*order, Status::Authorizing).await;
    }
}

#[tokio::test]
async fn an_authorisation_that_hangs_is_ended_by_the_cancellation() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.reserved(order, "tok_hang").await;
    shop.attempted(order).await;
    shop.cancelled(order).await;
    shop.reaches(order, Status::Voided).await;
    assert_eq!(shop.told(order).await, ["voided"]);
    assert_eq!(shop.ledger(order).await, [], "no money moved");
    assert_eq!(psp.outcome(&format!("void:{order}")).await.as_deref(), Some("nothing_to_void"));
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn silence_is_asked_again_with_the_same_key_until_there_is_an_answer() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    for token in ["tok_late", "tok_error", "tok_flaky"] {
        let order = new_order();
        shop.reserved(order, token).await;
        shop.reaches(order, Status::Authorized).await;
        shop.confirmed(order).await;
        shop.reaches(order, Status::Captured).await;
        assert_eq!(shop.told(order).await, ["authorized", "captured"], "{token}");
        assert_eq!(psp.operations_of(order).await, 2, "{token}");
    }
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn a_late_approval_of_a_cancelled_order_is_voided() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.reserved(order, "tok_late").await;
    let approved = format!("auth:{order}");
    eventually(PATIENCE, "the approval", async || psp.operation(&approved).await).await;
    shop.cancelled(order).await;
    shop.reaches(order, Status::Voided).await;
    let told = shop.told(order).await;
    assert_eq!(told.last().map(String::as_str), Some("voided"), "{told:?}");
    assert_eq!(psp.outcome(&format!("void:{order}")).await.as_deref(), Some("voided"));
    assert!(shop.ledger(order).await.contains(&("void".to_owned(), AMOUNT)));
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn a_capture_that_fails_for_good_is_told_and_then_voided() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.reserved(order, "tok_capture_fails").await;
    shop.reaches(order, Status::Authorized).await;
    let confirmed = shop.confirmed(order).await;
    let payment = shop.reaches(order, Status::CaptureFailed).await;
    assert_eq!(payment.code.as_deref(), Some("authorization_expired"));
    shop.cancelled(order).await;
    shop.reaches(order, Status::Voided).await;
    assert_eq!(shop.told(order).await, ["authorized", "capture_failed", "voided"]);
    let ledger = [("auth".to_owned(), AMOUNT), ("void".to_owned(), AMOUNT)];
    assert_eq!(shop.ledger(order).await, ledger);

    // An older record again, as if it had never been seen: looks back, and is no contradiction.
    forget_inbox(&shop).await;
    shop.repeat(&confirmed).await;
    follow_up(&shop).await;
    assert_eq!(dead_letters(&shop).await, 0);
    shop.stop().await;
    psp.stop().await;
}

async fn forget_inbox(shop: &Shop) {
    sqlx::query("DELETE FROM inbox").execute(shop.db.pool()).await.unwrap();
}

async fn dead_letters(shop: &Shop) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM parked_key").fetch_one(shop.db.pool()).await.unwrap()
}

#[tokio::test]
async fn a_cancellation_that_comes_first_stops_the_reservation() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.cancelled(order).await;
    shop.reaches(order, Status::Cancelled).await;
    shop.reserved(order, "tok_ok").await;
    follow_up(&shop).await;
    let payment = shop.reaches(order, Status::Cancelled).await;
    assert_eq!((payment.version, payment.attempt, payment.token), (1, 0, None));
    assert_eq!(shop.told(order).await, Vec::<String>::new());
    assert_eq!(psp.operations_of(order).await, 0);
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn an_authorisation_is_not_begun_when_the_time_is_up() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let (late, punctual) = (new_order(), new_order());
    shop.reserved_until(late, "tok_ok", now() - Duration::from_secs(1)).await;
    shop.reaches(late, Status::Authorizing).await;
    shop.reserved(punctual, "tok_flaky").await;
    // By then the table was scanned as well.
    shop.reaches(punctual, Status::Authorized).await;
    assert_eq!(shop.payment(late).await.unwrap().attempt, 0);
    shop.cancelled(late).await;
    shop.reaches(late, Status::Cancelled).await;
    assert_eq!(psp.operations_of(late).await, 0);
    assert_eq!(shop.told(late).await, Vec::<String>::new());
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn records_that_come_twice_or_again_change_nothing() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    let reserved = shop.reserved(order, "tok_ok").await;
    shop.repeat(&reserved).await;
    shop.reaches(order, Status::Authorized).await;
    let confirmed = shop.confirmed(order).await;
    shop.repeat(&confirmed).await;
    shop.repeat(&reserved).await;
    let before = shop.reaches(order, Status::Captured).await;
    // Once more with other ids, and once more as if the inbox had been lost.
    shop.reserved(order, "tok_ok").await;
    shop.confirmed(order).await;
    forget_inbox(&shop).await;
    shop.repeat(&reserved).await;
    shop.repeat(&confirmed).await;
    follow_up(&shop).await;
    assert_eq!(shop.payment(order).await.unwrap(), before);
    assert_eq!(shop.told(order).await, ["authorized", "captured"]);
    assert_eq!(psp.operations_of(order).await, 2);
    assert_eq!(dead_letters(&shop).await, 0);
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn a_contradiction_is_set_aside_and_others_go_on() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let (odd, good) = (new_order(), new_order());
    shop.confirmed(odd).await;
    shop.reserved(good, "tok_ok").await;
    shop.reaches(good, Status::Authorized).await;
    eventually(PATIENCE, "a dead letter", async || (dead_letters(&shop).await == 1).then_some(()))
        .await;
    assert_eq!(shop.payment(odd).await, None);
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn a_provider_that_comes_later_is_waited_for() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let shop = Shop::start(&format!("http://{address}"), 1).await;
    let ready = async || {
        let report = shop.replicas[0].readiness.report();
        (report.status == portolan_runtime::Status::Degraded).then_some(())
    };
    eventually(PATIENCE, "ready but for the provider", ready).await;
    let order = new_order();
    shop.reserved(order, "tok_ok").await;
    shop.attempted(order).await;
    let psp = Psp::start_at(address).await;
    shop.reaches(order, Status::Authorized).await;
    shop.stop().await;
    psp.stop().await;
}
