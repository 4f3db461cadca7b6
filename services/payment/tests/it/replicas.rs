//! More than one worker: leases, zombies, and a worker that dies.

use std::time::Duration;

use portolan_kernel::OrderId;
use portolan_payment::{
    app::Answered,
    domain::{Answer, Call, Status, Step},
    provider::{Provider, Question},
};
use portolan_runtime::{files::POLL, telemetry::TraceContext};
use portolan_testkit::context;

use crate::support::{Psp, Shop, new_order, now, settlement};

const TOKENS: [&str; 6] =
    ["tok_ok", "tok_declined", "tok_error", "tok_late", "tok_flaky", "tok_capture_fails"];

#[tokio::test]
async fn two_replicas_bring_every_payment_to_its_end_exactly_once() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 2).await;
    let orders: Vec<(OrderId, &str)> =
        (0..48).map(|n| (new_order(), TOKENS[n % TOKENS.len()])).collect();
    for (order, token) in &orders {
        shop.reserved(*order, token).await;
    }
    for (order, token) in &orders {
        if *token == "tok_declined" {
            shop.reaches(*order, Status::Declined).await;
        } else {
            shop.reaches(*order, Status::Authorized).await;
            shop.confirmed(*order).await;
        }
    }
    for (order, token) in &orders {
        let (last, told): (Status, &[&str]) = match *token {
            "tok_declined" => (Status::Declined, &["declined"]),
            "tok_capture_fails" => (Status::CaptureFailed, &["authorized", "capture_failed"]),
            _ => (Status::Captured, &["authorized", "captured"]),
        };
        shop.reaches(*order, last).await;
        assert_eq!(logged(&shop, *order).await, told, "{token}");
    }
    let captured: i64 =
        sqlx::query_scalar("SELECT count(*) FROM operation WHERE outcome = 'captured'")
            .fetch_one(psp.db.pool())
            .await
            .unwrap();
    assert_eq!(captured, 32);
    shop.stop().await;
    psp.stop().await;
}

/// What was told of an order, from the log that is written together with the payment.
async fn logged(shop: &Shop, order: OrderId) -> Vec<String> {
    let types: Vec<String> =
        sqlx::query_scalar("SELECT type FROM event_log WHERE key = $1 ORDER BY version")
            .bind(order.0)
            .fetch_all(shop.db.pool())
            .await
            .unwrap();
    let short = |kind: String| {
        kind.trim_start_matches("portolan.payment.").trim_end_matches(".v1").to_owned()
    };
    types.into_iter().map(short).collect()
}

#[tokio::test]
async fn a_worker_that_wakes_up_after_its_lease_harms_nothing() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    let question = begun_by_a_sleeper(&shop, order).await;
    let provider = Provider::new(&shop.provider(), &context(), POLL).unwrap();
    let answer = provider.ask(&question, &TraceContext::none()).await;
    assert!(matches!(answer, Answer::Approved { .. }), "{answer:?}");
    // Before it writes that down another worker takes over, and the order goes on.
    shop.reaches(order, Status::Authorized).await;
    shop.confirmed(order).await;
    let before = shop.reaches(order, Status::Captured).await;

    let settlement = settlement(&shop);
    for answer in [answer, Answer::Unknown] {
        let call = Call { step: Step::Authorize, attempt: 1 };
        let answered = Answered { order, call, answer, trace: TraceContext::none() };
        settlement.settle(&[answered]).await.unwrap();
    }
    assert_eq!(shop.payment(order).await.unwrap(), before);
    assert_eq!(logged(&shop, order).await, ["authorized", "captured"]);
    shop.stop().await;
    psp.stop().await;
}

/// A payment whose first attempt was claimed, for a second, by a worker that now sleeps. The
/// deadline keeps the real worker away until then.
async fn begun_by_a_sleeper(shop: &Shop, order: OrderId) -> Question {
    shop.reserved_until(order, "tok_ok", now() - Duration::from_secs(1)).await;
    let payment = shop.reaches(order, Status::Authorizing).await;
    let claimed = sqlx::query(
        "UPDATE payment
         SET deadline = now() + interval '15 min', attempt = 1,
             lease_until = now() + interval '1 second'
         WHERE order_id = $1 AND attempt = 0",
    )
    .bind(order.0)
    .execute(shop.db.pool())
    .await
    .unwrap();
    assert_eq!(claimed.rows_affected(), 1);
    Question { order, step: Step::Authorize, amount: payment.amount, token: payment.token }
}

#[tokio::test]
async fn a_sleeping_worker_cannot_authorise_what_was_voided() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.reserved(order, "tok_hang").await;
    shop.attempted(order).await;
    shop.cancelled(order).await;
    shop.reaches(order, Status::Voided).await;
    // The request of the first attempt arrives only now, and the card has recovered.
    let body = serde_json::json!({
        "idempotency_key": format!("auth:{order}"),
        "order_id": order,
        "amount_minor": 1,
        "currency": "GBP",
        "payment_token": "tok_ok",
    });
    let (status, answer) = psp.post("/v1/authorizations", &body).await;
    assert_eq!((status, answer["outcome"].as_str()), (200, Some("refused")));
    shop.stop().await;
    psp.stop().await;
}

#[tokio::test]
async fn what_a_dead_worker_had_taken_is_taken_over() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let order = new_order();
    shop.reserved(order, "tok_ok").await;
    shop.reaches(order, Status::Authorized).await;
    // A worker claimed the capture, reached the provider and died before it wrote that down.
    sqlx::query(
        "UPDATE payment
         SET state = 'CAPTURING', confirmed = true, version = version + 1, attempt = 1,
             next_attempt_at = now(), lease_until = now() + interval '1 second'
         WHERE order_id = $1",
    )
    .bind(order.0)
    .execute(shop.db.pool())
    .await
    .unwrap();
    let capture = serde_json::json!({
        "idempotency_key": format!("cap:{order}"),
        "authorization_key": format!("auth:{order}"),
        "amount_minor": crate::support::AMOUNT,
    });
    assert_eq!(psp.post("/v1/captures", &capture).await.1["outcome"], "captured");
    shop.reaches(order, Status::Captured).await;
    assert_eq!(psp.operations_of(order).await, 2);
    assert_eq!(logged(&shop, order).await, ["authorized", "captured"]);
    shop.stop().await;
    psp.stop().await;
}

/// How many repeated calls are under way.
async fn repetitions(shop: &Shop) -> usize {
    let sql = "SELECT count(*) FROM payment WHERE lease_until IS NOT NULL AND attempt > 1";
    let count: i64 = sqlx::query_scalar(sql).fetch_one(shop.db.pool()).await.unwrap();
    usize::try_from(count).unwrap()
}

#[tokio::test]
async fn cards_that_hang_do_not_hold_up_the_others() {
    let psp = Psp::start().await;
    let shop = Shop::start(&psp.url, 1).await;
    let calls = shop.provider().concurrency;
    let hanging: Vec<OrderId> = (0..3 * calls).map(|_| new_order()).collect();
    for order in &hanging {
        shop.reserved(*order, "tok_hang").await;
    }
    for order in &hanging {
        shop.attempted(*order).await;
    }
    // From now on every call that may be a repetition is one, and none is ever answered.
    let mut most = 0;
    for _ in 0..5 {
        let order = new_order();
        shop.reserved(order, "tok_ok").await;
        shop.reaches(order, Status::Authorized).await;
        for _ in 0..20 {
            most = most.max(repetitions(&shop).await);
        }
    }
    assert_eq!(most, calls / 2, "repetitions take half of the calls, and no more");
    for order in &hanging {
        shop.cancelled(*order).await;
    }
    for order in &hanging {
        shop.reaches(*order, Status::Voided).await;
    }
    shop.stop().await;
    psp.stop().await;
}
