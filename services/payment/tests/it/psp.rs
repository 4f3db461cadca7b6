//! The provider simulator over HTTP: every card, every refusal, and undo before do.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{AMOUNT, Psp, new_order};

/// The requests about one order.
struct Card {
    order: String,
    token: &'static str,
}

impl Card {
    fn new(token: &'static str) -> Self {
        Self { order: new_order().to_string(), token }
    }

    fn key(&self) -> String {
        format!("auth:{}", self.order)
    }

    fn authorization(&self) -> Value {
        json!({
            "idempotency_key": self.key(),
            "order_id": self.order,
            "amount_minor": AMOUNT,
            "currency": "GBP",
            "payment_token": self.token,
        })
    }

    async fn authorize(&self, psp: &Psp) -> (u16, Value) {
        psp.post("/v1/authorizations", &self.authorization()).await
    }

    async fn capture(&self, psp: &Psp) -> (u16, Value) {
        let key = format!("cap:{}", self.order);
        let body = json!({"idempotency_key": key, "authorization_key": self.key(), "amount_minor": AMOUNT});
        psp.post("/v1/captures", &body).await
    }

    async fn void(&self, psp: &Psp) -> (u16, Value) {
        let body = json!({"idempotency_key": format!("void:{}", self.order), "authorization_key": self.key()});
        psp.post("/v1/voids", &body).await
    }
}

fn decided(answer: (u16, Value), outcome: &str, code: Option<&str>) -> Value {
    let (status, body) = answer;
    assert_eq!((status, &body["outcome"], &body["code"]), (200, &json!(outcome), &json!(code)));
    body
}

#[tokio::test]
async fn a_good_card_is_authorised_captured_and_paid_back() {
    let psp = Psp::start().await;
    let card = Card::new("tok_ok_1");
    let first = decided(card.authorize(&psp).await, "approved", None);
    assert_eq!(card.authorize(&psp).await.1, first, "the same answer for ever");
    let captured = decided(card.capture(&psp).await, "captured", None);
    assert_eq!(card.capture(&psp).await.1, captured);
    decided(card.void(&psp).await, "refused", Some("already_captured"));

    let refund = |key: &str, amount: i64| json!({"idempotency_key": key, "capture_key": format!("cap:{}", card.order), "amount_minor": amount});
    decided(psp.post("/v1/refunds", &refund("r1", AMOUNT - 50)).await, "refunded", None);
    let too_much = psp.post("/v1/refunds", &refund("r2", 51)).await;
    decided(too_much, "refused", Some("refund_exceeds_capture"));
    decided(psp.post("/v1/refunds", &refund("r3", 50)).await, "refunded", None);
    assert_eq!(psp.operation(&card.key()).await.unwrap(), first);
    psp.stop().await;
}

#[tokio::test]
async fn cards_that_are_not_accepted_are_declined() {
    let psp = Psp::start().await;
    for (token, code) in [("tok_declined_1", "insufficient_funds"), ("visa", "unknown_token")] {
        let card = Card::new(token);
        decided(card.authorize(&psp).await, "declined", Some(code));
        decided(card.authorize(&psp).await, "declined", Some(code));
        decided(card.capture(&psp).await, "refused", Some("authorization_declined"));
        decided(card.void(&psp).await, "nothing_to_void", None);
    }
    psp.stop().await;
}

#[tokio::test]
async fn a_card_whose_capture_fails_can_still_be_voided() {
    let psp = Psp::start().await;
    let card = Card::new("tok_capture_fails_1");
    decided(card.authorize(&psp).await, "approved", None);
    decided(card.capture(&psp).await, "refused", Some("authorization_expired"));
    decided(card.void(&psp).await, "voided", None);
    decided(card.capture(&psp).await, "refused", Some("authorization_expired"));
    psp.stop().await;
}

#[tokio::test]
async fn a_card_that_hangs_is_never_answered_and_nothing_is_done() {
    let psp = Psp::start().await;
    let card = Card::new("tok_hang_1");
    let request = psp.request(Method::POST, "/v1/authorizations").json(&card.authorization());
    let error = request.timeout(Duration::from_millis(300)).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(psp.operation(&card.key()).await, None);
    decided(card.void(&psp).await, "nothing_to_void", None);
    // The hanging request does not keep the process from stopping.
    psp.stop().await;
}

#[tokio::test]
async fn a_late_card_is_approved_before_it_is_answered() {
    let psp = Psp::start().await;
    let card = Card::new("tok_late_1");
    let request = psp.request(Method::POST, "/v1/authorizations").json(&card.authorization());
    let error = request.timeout(Duration::from_millis(300)).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(psp.outcome(&card.key()).await.as_deref(), Some("approved"));
    decided(card.authorize(&psp).await, "approved", None);
    let patient = Card::new("tok_late_2");
    decided(patient.authorize(&psp).await, "approved", None);
    psp.stop().await;
}

#[tokio::test]
async fn a_card_that_fails_afterwards_was_approved() {
    let psp = Psp::start().await;
    let card = Card::new("tok_error_1");
    let (status, problem) = card.authorize(&psp).await;
    assert_eq!((status, &problem["code"]), (500, &json!("simulated_failure")));
    decided(card.authorize(&psp).await, "approved", None);
    decided(card.capture(&psp).await, "captured", None);
    psp.stop().await;
}

#[tokio::test]
async fn a_flaky_card_fails_once_without_anything_being_done() {
    let psp = Psp::start().await;
    let card = Card::new("tok_flaky_1");
    assert_eq!(card.authorize(&psp).await.0, 503);
    assert_eq!(psp.operation(&card.key()).await, None);
    decided(card.authorize(&psp).await, "approved", None);
    psp.stop().await;
}

#[tokio::test]
async fn a_void_that_comes_first_refuses_the_authorisation_for_ever() {
    let psp = Psp::start().await;
    for token in ["tok_ok_1", "tok_declined_1", "tok_capture_fails_1"] {
        let card = Card::new(token);
        let void = decided(card.void(&psp).await, "nothing_to_void", None);
        decided(card.authorize(&psp).await, "refused", Some("authorization_voided"));
        decided(card.authorize(&psp).await, "refused", Some("authorization_voided"));
        decided(card.capture(&psp).await, "refused", Some("authorization_voided"));
        assert_eq!(card.void(&psp).await.1, void);
    }
    psp.stop().await;
}

#[tokio::test]
async fn a_voided_authorisation_is_never_captured() {
    let psp = Psp::start().await;
    let card = Card::new("tok_ok_1");
    decided(card.authorize(&psp).await, "approved", None);
    decided(card.void(&psp).await, "voided", None);
    decided(card.capture(&psp).await, "refused", Some("authorization_voided"));
    decided(card.capture(&psp).await, "refused", Some("authorization_voided"));
    psp.stop().await;
}

#[tokio::test]
async fn an_authorisation_is_captured_once_whatever_the_keys() {
    let psp = Psp::start().await;
    let card = Card::new("tok_ok_1");
    card.authorize(&psp).await;
    let capture = async |key: String| {
        let body = json!({"idempotency_key": key, "authorization_key": card.key(), "amount_minor": AMOUNT});
        psp.post("/v1/captures", &body).await.1["outcome"].clone()
    };
    let outcomes = futures::future::join_all((0..8).map(|n| capture(format!("cap{n}")))).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "captured").count(), 1);
    psp.stop().await;
}

#[tokio::test]
async fn twins_at_the_same_moment_get_one_answer() {
    let psp = Psp::start().await;
    for token in ["tok_ok_1", "tok_declined_1"] {
        let card = Card::new(token);
        let answers = futures::future::join_all((0..8).map(|_| card.authorize(&psp))).await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(answers[0].0, 200);
    }
    psp.stop().await;
}

#[tokio::test]
async fn an_authorisation_and_its_void_at_the_same_moment_leave_nothing_open() {
    let psp = Psp::start().await;
    for _ in 0..20 {
        let card = Card::new("tok_ok_1");
        let (authorized, voided) = tokio::join!(card.authorize(&psp), card.void(&psp));
        if authorized.1["outcome"] == "approved" {
            decided(voided, "voided", None);
        } else {
            decided(authorized, "refused", Some("authorization_voided"));
            decided(voided, "nothing_to_void", None);
        }
    }
    let open: i64 =
        sqlx::query_scalar("SELECT count(*) FROM authorization_state WHERE status = 'open'")
            .fetch_one(psp.db.pool())
            .await
            .unwrap();
    assert_eq!(open, 0);
    psp.stop().await;
}

#[tokio::test]
async fn a_key_is_good_for_one_request_only() {
    let psp = Psp::start().await;
    let card = Card::new("tok_ok_1");
    decided(card.authorize(&psp).await, "approved", None);
    for (field, value) in [
        ("amount_minor", json!(AMOUNT + 1)),
        ("currency", json!("EUR")),
        ("payment_token", json!("tok_ok_2")),
        ("order_id", json!(new_order())),
    ] {
        let mut other = card.authorization();
        other[field] = value;
        let (status, problem) = psp.post("/v1/authorizations", &other).await;
        assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")), "{field}");
    }
    let void = json!({"idempotency_key": card.key(), "authorization_key": card.key()});
    assert_eq!(psp.post("/v1/voids", &void).await.0, 422, "not even for another kind");
    let too_much = json!({"idempotency_key": "c", "authorization_key": card.key(), "amount_minor": AMOUNT + 1});
    let (status, problem) = psp.post("/v1/captures", &too_much).await;
    assert_eq!((status, &problem["code"]), (422, &json!("amount_exceeds_authorization")));
    decided(card.capture(&psp).await, "captured", None);
    psp.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_changes_nothing() {
    let psp = Psp::start().await;
    let card = Card::new("tok_ok_1");
    for (field, value) in [
        ("amount_minor", json!(-1)),
        ("amount_minor", json!("12")),
        ("amount_minor", json!(1.5)),
        ("currency", json!("pounds")),
        ("order_id", json!("order 1")),
        ("payment_token", json!("")),
        ("idempotency_key", json!("a b")),
        ("idempotency_key", json!("k".repeat(201))),
        ("idempotency_key", json!("\0")),
        ("surprise", json!(1)),
    ] {
        let mut body = card.authorization();
        body[field] = value;
        let (status, problem) = psp.post("/v1/authorizations", &body).await;
        assert_eq!(status, 400, "{field}: {problem}");
        assert!(problem.to_string().contains(field), "{field}: {problem}");
    }
    let raw = |body: &[u8]| {
        let request = psp.request(Method::POST, "/v1/voids").body(body.to_vec());
        request.header("content-type", "application/json")
    };
    assert_eq!(psp.send(raw(b"{")).await.0, 400);
    assert_eq!(psp.send(raw(b"{\"idempotency_key\": \"\xff\"}")).await.0, 400);
    assert_eq!(psp.send(raw(&vec![b' '; 20_000])).await.0, 413);
    assert_eq!(psp.send(psp.request(Method::POST, "/v1/voids").body("{}")).await.0, 415);
    assert_eq!(psp.send(psp.request(Method::GET, "/v1/voids")).await.0, 405);
    assert_eq!(psp.send(psp.request(Method::GET, "/v2")).await.0, 404);
    assert_eq!(psp.send(psp.request(Method::GET, "/v1/operations/nobody")).await.0, 404);
    assert_eq!(psp.send(psp.request(Method::GET, "/v1/operations/%00")).await.0, 400);
    assert_eq!(psp.send(psp.request(Method::GET, "/v1/operations/%ff")).await.0, 404);
    assert_eq!(card.capture(&psp).await.0, 404);
    let refund = json!({"idempotency_key": "r", "capture_key": "c", "amount_minor": 1});
    assert_eq!(psp.post("/v1/refunds", &refund).await.0, 404);
    let rows: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM operation) + (SELECT count(*) FROM authorization_state)",
    )
    .fetch_one(psp.db.pool())
    .await
    .unwrap();
    assert_eq!(rows, 0);
    psp.stop().await;
}
