use serde_json::json;

use crate::{
    double::ORDER_ID,
    support::{GOOD_ORDER, Gateway},
};

#[tokio::test]
async fn an_accepted_order_has_an_address_and_its_whole_state() {
    let gateway = Gateway::start().await;
    let answer = gateway.place("\"key-1\"", GOOD_ORDER).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("location"), format!("/v1/orders/{ORDER_ID}"));
    assert_eq!(answer.header("idempotency-replayed"), "");
    let expected = json!({
        "id": ORDER_ID,
        "status": "PENDING",
        "user_id": "alice",
        "amount": {"minor_units": 510, "currency": "GBP"},
        "lines": [{
            "sku": "85123A", "quantity": 2,
            "unit_price": {"minor_units": 255, "currency": "GBP"},
        }],
        "version": 1,
        "created_at": "2026-09-21T14:13:20.123456Z",
        "updated_at": "2026-09-21T14:13:21.123456Z",
        "deadline": "2026-09-21T14:28:20.123456Z",
    });
    assert_eq!(answer.json(), expected);

    let placed = gateway.double.placed();
    assert_eq!(placed[0].idempotency_key, "key-1", "without the quotes of the header");
    assert_eq!(placed[0].user_id, "alice", "from the token");
    assert_eq!(placed[0].payment_token, "tok_ok_1");
}

#[tokio::test]
async fn a_replay_is_the_same_answer_and_says_so() {
    let gateway = Gateway::start().await;
    let first = gateway.place("key-1", GOOD_ORDER).await;
    let again = gateway.place("key-1", GOOD_ORDER).await;
    assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn lists_have_pages() {
    let gateway = Gateway::start().await;
    let first = gateway.get("/v1/orders?status=AWAITING_PAYMENT&limit=1").await.json();
    assert_eq!(first["orders"][0]["status"], "AWAITING_PAYMENT");
    assert_eq!(first["next_cursor"], "more");
    let last = gateway.get("/v1/orders?cursor=more&status=CONFIRMED").await.json();
    assert!(last["next_cursor"].is_null());
    let products = gateway.get("/v1/products?q=heart").await.json();
    assert_eq!(products["products"][0]["price"], json!({"minor_units": 255, "currency": "GBP"}));
}

#[tokio::test]
async fn a_cancelled_order_says_why() {
    let gateway = Gateway::start().await;
    let answer = gateway.post(&format!("/v1/orders/{ORDER_ID}/cancel"), "").await;
    assert_eq!(answer.status, 200);
    let order = answer.json();
    assert_eq!(
        (&order["status"], &order["cancel_reason"]),
        (&json!("CANCELLED"), &json!("CUSTOMER"))
    );
}

#[tokio::test]
async fn the_other_resources_have_their_form() {
    let gateway = Gateway::start().await;
    let timeline = gateway.get(&format!("/v1/orders/{ORDER_ID}/timeline")).await.json();
    let entry = json!({
        "event_id": ORDER_ID, "type": "portolan.order.placed.v1", "source": "/portolan/order",
        "time": "2026-09-21T14:13:20Z",
    });
    assert_eq!(timeline, json!({"entries": [entry]}));
    let stats = gateway.get("/v1/me/stats").await.json();
    let expected = json!({
        "orders": 3, "completed": 0, "cancelled": 0, "open": 3, "spent": [], "last_order": null,
    });
    assert_eq!(stats, expected);
    let product = gateway.get("/v1/products/15056%23BL").await.json();
    assert_eq!(product["sku"], "15056#BL");
}
