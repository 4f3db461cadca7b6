use futures::future::join_all;
use portolan_kernel::ErrorCode;

use crate::{
    double::{ORDER_ID, Refusal},
    support::{GOOD_ORDER, Gateway},
};

const STATS: &str = "/v1/me/stats";

#[tokio::test]
async fn a_service_that_hangs_is_not_asked_any_more_and_the_client_is_told_when_to_come_back() {
    let gateway = Gateway::with(|config| {
        // A service has more than a second of it.
        config.limits.request_timeout_ms = 1_500;
        config.breaker.open_ms = 90_000;
    })
    .await;
    gateway.double.fall_silent();
    for answer in join_all((0..10).map(|_| gateway.get(STATS))).await {
        answer.problem(504, "deadline_exceeded");
    }
    let calls = gateway.double.calls();
    let answer = gateway.place("k", GOOD_ORDER).await;
    answer.problem(503, "unavailable");
    let seconds: u32 = answer.header("retry-after").parse().unwrap();
    assert!((2..=90).contains(&seconds), "{seconds}");
    assert_eq!(gateway.double.calls(), calls, "nobody was asked");

    // The other service has a breaker of its own.
    gateway.get("/v1/products").await.problem(504, "deadline_exceeded");
    assert_eq!(gateway.double.calls(), calls + 1);
}

#[tokio::test]
async fn what_a_service_refuses_for_good_reasons_does_not_keep_others_from_it() {
    let gateway = Gateway::start().await;
    let path = format!("/v1/orders/{ORDER_ID}/cancel");
    for (code, reason, status) in [
        (ErrorCode::Unavailable, "inventory_unavailable", 503),
        (ErrorCode::Unavailable, "events_delayed", 503),
        (ErrorCode::FailedPrecondition, "order_not_cancellable", 409),
        (ErrorCode::Internal, "internal", 500),
    ] {
        let refusal = Refusal { code, reason, violations: Vec::new(), retry_after_secs: None };
        gateway.double.refuse(refusal);
        for answer in join_all((0..20).map(|_| gateway.post(&path, ""))).await {
            answer.problem(status, reason);
        }
    }
    assert_eq!(gateway.double.calls(), 80);
}

#[tokio::test]
async fn a_service_that_hangs_takes_no_more_than_its_share_of_the_requests() {
    let gateway = Gateway::with(|config| config.limits.concurrent_calls = 3).await;
    gateway.double.fall_silent();
    let hanging = join_all((0..3).map(|_| gateway.get(STATS)));
    let others = async {
        while gateway.double.calls() < 3 {
            tokio::task::yield_now().await;
        }
        for answer in join_all((0..5).map(|_| gateway.get(STATS))).await {
            answer.problem(503, "overloaded");
        }
    };
    tokio::select! {
        answers = hanging => panic!("nobody answers: {answers:?}"),
        () = others => assert_eq!(gateway.double.calls(), 3),
    }
}
