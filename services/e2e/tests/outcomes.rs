//! Every way an order can end, reached over HTTP by the provider's test cards.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use portolan_e2e::{Options, Service, Shop};
use serde_json::{Value, json};

/// The events of a timeline without `portolan.` and `.v1`.
fn kinds(timeline: &[Value]) -> Vec<&str> {
    timeline.iter().filter_map(|entry| short(entry["type"].as_str()?)).collect()
}

fn short(kind: &str) -> Option<&str> {
    kind.strip_prefix("portolan.")?.strip_suffix(".v1")
}

async fn available(shop: &Shop, sku: &str) -> i64 {
    let product = shop.customer("anyone").get(&format!("/v1/products/{sku}")).await.expect(200);
    product.body["available"].as_i64().unwrap()
}

#[tokio::test]
async fn an_order_with_a_good_card_is_completed_and_its_story_is_told() {
    let shop = Shop::open().await;
    let alice = shop.log_in("alice").await;
    let before = available(&shop, "TEAPOT").await;
    let order = alice.place(&[("TEAPOT", 2), ("CUP", 5), ("TEAPOT", 1)], "tok_ok_1").await;
    let order = alice.becomes(order, "COMPLETED").await;
    assert_eq!(order["amount"], json!({"minor_units": 3 * 1_250 + 5 * 300, "currency": "GBP"}));
    // The approval may be heard before the reservation: then one transition is passed over.
    assert!(matches!(order["version"].as_i64(), Some(3 | 4)), "{order}");
    assert_eq!(available(&shop, "TEAPOT").await, before - 3);
    shop.assert_sound().await;

    let id = order["id"].as_str().unwrap().parse().unwrap();
    let timeline = alice.timeline(id).await;
    let told = kinds(&timeline);
    assert_eq!(
        told.iter().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([
            "order.placed",
            "inventory.reserved",
            "payment.authorized",
            "order.confirmed",
            "inventory.committed",
            "payment.captured",
            "order.completed",
            "notification.sent",
        ])
    );
    assert_eq!(told.len(), 8, "nothing is told twice: {told:?}");
    assert_eq!(
        (told[0], told[6], told[7]),
        ("order.placed", "order.completed", "notification.sent")
    );
    let traces: BTreeSet<&str> =
        timeline.iter().map(|entry| entry["trace_id"].as_str().unwrap_or("none")).collect();
    assert_eq!(traces.len(), 1, "one trace from the request to the mail: {timeline:#?}");
    assert!(traces.iter().all(|trace| trace.len() == 32), "{timeline:#?}");
    let times: Vec<&str> = timeline.iter().map(|entry| entry["time"].as_str().unwrap()).collect();
    let parse = |text: &&str| {
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
    };
    assert!(times.iter().map(parse).is_sorted(), "{times:?}");
    assert!(!format!("{timeline:?}").contains("tok_ok"), "the card's token is nobody's business");
}

#[tokio::test]
async fn an_order_of_more_than_there_is_is_cancelled_and_nothing_is_set_aside() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 2), ("CLOCK", 4)], "tok_ok_1").await;
    let order = alice.becomes(order, "CANCELLED").await;
    assert_eq!(order["cancel_reason"], "OUT_OF_STOCK");
    shop.assert_sound().await;
    assert_eq!(available(&shop, "CUP").await, 100_000);
    assert_eq!(available(&shop, "CLOCK").await, 3);
    assert_eq!(shop.count(Service::Psp, "SELECT count(*) FROM operation").await, 0);
}

#[tokio::test]
async fn the_last_pieces_go_to_one_of_two_customers() {
    let shop = Shop::open().await;
    let (alice, bob) = (shop.customer("alice"), shop.customer("bob"));
    let (first, second) = futures::join!(
        alice.place(&[("CLOCK", 2)], "tok_ok_1"),
        bob.place(&[("CLOCK", 2)], "tok_ok_2")
    );
    let (first, second) = futures::join!(alice.final_order(first), bob.final_order(second));
    let ends = [first, second].map(|order| order["status"].as_str().unwrap().to_owned());
    assert_eq!(BTreeSet::from(ends), ["COMPLETED", "CANCELLED"].map(str::to_owned).into());
    shop.assert_sound().await;
    assert_eq!(available(&shop, "CLOCK").await, 1);
}

#[tokio::test]
async fn an_order_with_a_declined_card_is_cancelled_and_its_goods_return() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CLOCK", 3)], "tok_declined_1").await;
    let found = alice.becomes(order, "CANCELLED").await;
    assert_eq!(found["cancel_reason"], "PAYMENT_DECLINED");
    shop.assert_sound().await;
    assert_eq!(available(&shop, "CLOCK").await, 3);
    let timeline = alice.timeline(order).await;
    let declined = timeline.iter().find(|entry| entry["type"] == "portolan.payment.declined.v1");
    assert_eq!(declined.unwrap()["detail"], "insufficient_funds");
    assert!(kinds(&timeline).contains(&"inventory.released"));
}

#[tokio::test]
async fn a_customer_can_cancel_while_the_provider_is_silent() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CLOCK", 3)], "tok_hang_1").await;
    alice.becomes(order, "AWAITING_PAYMENT").await;
    let cancelled = alice.cancel(order).await.unwrap().expect(200);
    assert_eq!(cancelled.body["status"], "CANCELLED");
    assert_eq!(cancelled.body["cancel_reason"], "CUSTOMER");
    let again = alice.cancel(order).await.unwrap().expect(200);
    assert_eq!(again.body["version"], cancelled.body["version"]);
    shop.assert_sound().await;
    assert_eq!(available(&shop, "CLOCK").await, 3);
}

#[tokio::test]
async fn a_completed_order_can_no_longer_be_cancelled() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    alice.becomes(order, "COMPLETED").await;
    let refused = alice.cancel(order).await.unwrap();
    let _ = refused.expect_problem(409, "order_not_cancellable");
    shop.assert_sound().await;
    assert_eq!(alice.order(order).await["status"], "COMPLETED");
}

#[tokio::test]
async fn the_deadline_cancels_an_order_that_the_provider_never_answers() {
    let shop = Shop::with(Options { deadline_secs: 5, ..Options::default() }).await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_hang_1").await;
    let order = alice.becomes(order, "CANCELLED").await;
    assert_eq!(order["cancel_reason"], "TIMEOUT");
    assert_eq!(order["version"], 3, "it had its goods and waited for its money");
    shop.assert_sound().await;
    assert_eq!(available(&shop, "CUP").await, 100_000);
}

#[tokio::test]
async fn an_approval_that_comes_after_the_timeout_counts_once() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_late_1").await;
    alice.becomes(order, "COMPLETED").await;
    shop.assert_sound().await;
    let approvals = "SELECT count(*) FROM operation WHERE outcome = 'approved'";
    assert_eq!(shop.count(Service::Psp, approvals).await, 1);
    let took = "SELECT (extract(epoch FROM updated_at - created_at) * 1000)::bigint FROM orders";
    let (took, timeout) = (shop.count(Service::Order, took).await, 1_000);
    assert!(took > timeout, "{took} ms: the first call was given up");
}

#[tokio::test]
async fn an_approval_that_comes_after_the_deadline_is_undone() {
    let options = Options {
        deadline_secs: 2,
        late_ms: 4_000,
        payment_timeout_ms: 8_000,
        ..Options::default()
    };
    let shop = Shop::with(options).await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_late_1").await;
    let order = alice.becomes(order, "CANCELLED").await;
    assert_eq!(order["cancel_reason"], "TIMEOUT");
    shop.assert_sound().await;
    let held = "SELECT count(*) FROM authorization_state WHERE status = 'voided'";
    assert_eq!(shop.count(Service::Psp, held).await, 1, "it was approved and then let go");
}

#[tokio::test]
async fn a_provider_that_fails_after_doing_its_work_is_asked_again_and_charges_once() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let (error, flaky) = futures::join!(alice.place(&[("CUP", 1)], "tok_error_1"), async {
        shop.customer("bob").place(&[("CUP", 1)], "tok_flaky_1").await
    });
    alice.becomes(error, "COMPLETED").await;
    shop.customer("bob").becomes(flaky, "COMPLETED").await;
    shop.assert_sound().await;
    let captures = "SELECT count(*) FROM operation WHERE outcome = 'captured'";
    assert_eq!(shop.count(Service::Psp, captures).await, 2);
}

#[tokio::test]
async fn a_capture_that_fails_for_good_cancels_the_confirmed_order_and_restocks() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CLOCK", 2)], "tok_capture_fails_1").await;
    let found = alice.becomes(order, "CANCELLED").await;
    assert_eq!(found["cancel_reason"], "CAPTURE_FAILED");
    shop.assert_sound().await;
    assert_eq!(available(&shop, "CLOCK").await, 3);
    let told = alice.timeline(order).await;
    let told = kinds(&told);
    for kind in ["order.confirmed", "payment.capture_failed", "order.cancelled", "payment.voided"] {
        assert!(told.contains(&kind), "{kind} in {told:?}");
    }
}
