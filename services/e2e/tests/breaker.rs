//! A service that hangs: those that need it hear so at once, the others notice nothing.
#![expect(clippy::expect_used, reason = "tests")]

use futures::future::join_all;
use portolan_e2e::{Answer, Service, Shop, new_key};
use portolan_testkit::{PATIENCE, eventually};

const STATE: &str = r#"portolan_breaker_state{service="inventory"}"#;
const REFUSED: &str = r#"portolan_calls_refused_total{service="inventory",why="open"}"#;
const OPEN: f64 = 2.0;

/// So many customers try at once to place an order, and are all told to come back.
async fn refused(shop: &Shop, attempts: usize) {
    let placing = (0..attempts).map(async |number| {
        let customer = shop.customer(&format!("customer-{number}"));
        customer.try_place(&new_key(), &[("CUP", 1)], "tok_ok_1").await.expect("an answer")
    });
    for answer in join_all(placing).await {
        retry_after(&answer.expect_problem(503, "inventory_unavailable"));
    }
}

fn retry_after(answer: &Answer) {
    let seconds: Option<u32> = answer.header("retry-after").parse().ok();
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{:?}", answer.headers);
}

/// Whether a process leaves inventory alone.
async fn is_open(shop: &Shop, service: Service) -> bool {
    let state = shop.metric(service, 0, STATE).await;
    (state - OPEN).abs() < f64::EPSILON
}

#[tokio::test]
async fn a_hung_inventory_is_left_alone_orders_are_read_meanwhile_and_it_heals_by_itself() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    alice.becomes(order, "COMPLETED").await;

    shop.freeze(Service::Inventory, 0);
    eventually(PATIENCE, "the order service leaves inventory alone", async || {
        refused(&shop, 10).await;
        is_open(&shop, Service::Order).await.then_some(())
    })
    .await;
    // Now and then one of them is the call that tries; most are refused without a call.
    let before = shop.metric(Service::Order, 0, REFUSED).await;
    refused(&shop, 10).await;
    assert!(shop.metric(Service::Order, 0, REFUSED).await - before >= 5.0);

    // So many hanging requests would fill a gateway that lets one service have them all.
    let hanging = join_all((0..10).map(|_| alice.get("/v1/products")));
    let reading = async {
        for path in ["/v1/orders", "/v1/me/stats", &format!("/v1/orders/{order}/timeline")] {
            let _ = alice.get(path).await.expect(200);
        }
        assert_eq!(alice.order(order).await["status"], "COMPLETED");
    };
    let (answers, ()) = futures::future::join(hanging, reading).await;
    for answer in answers {
        assert!(matches!(answer.status, 503 | 504), "{}", answer.body);
    }
    assert!(is_open(&shop, Service::Gateway).await);
    let refusal = alice.get("/v1/products").await;
    assert!(matches!(refusal.status, 503 | 504), "{}", refusal.body);

    shop.thaw(Service::Inventory, 0);
    let later = alice.place(&[("TEAPOT", 1)], "tok_ok_2").await;
    alice.becomes(later, "COMPLETED").await;
    eventually(PATIENCE, "products are shown again", async || {
        (alice.get("/v1/products").await.status == 200).then_some(())
    })
    .await;
    for service in [Service::Order, Service::Gateway] {
        assert!(!is_open(&shop, service).await, "{service:?}");
    }
    shop.assert_sound().await;
}
