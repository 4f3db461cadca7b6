use portolan_auth::Role;
use portolan_kernel::ErrorCode;
use portolan_proto::order::v1 as proto;
use portolan_runtime::grpc::Remote;
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::support::{Bench, asked_by, request};

fn code<T>(answer: Result<Response<T>, Status>) -> Option<ErrorCode> {
    answer.err().map(|status| Remote::from(status).code)
}

/// What the order service says to each of its methods: asked by these people about this customer and
/// her order.
async fn answers<'a>(
    bench: &Bench,
    order: &str,
    whose: &str,
    asker: impl Fn() -> Option<(&'a str, Role)>,
) -> Vec<Option<ErrorCode>> {
    fn ask<T>(asker: Option<(&str, Role)>, message: T) -> Request<T> {
        match asker {
            Some((user, role)) => asked_by(user, role, message),
            None => Request::new(message),
        }
    }
    let (user_id, order_id) = (whose.to_owned(), order.to_owned());
    let get = proto::GetOrderRequest { user_id: user_id.clone(), order_id: order_id.clone() };
    let watch = proto::WatchOrderRequest { user_id: user_id.clone(), order_id: order_id.clone() };
    let timeline =
        proto::GetTimelineRequest { user_id: user_id.clone(), order_id: order_id.clone() };
    let list =
        proto::ListOrdersRequest { user_id: user_id.clone(), limit: 1, ..Default::default() };
    let stats = proto::GetUserStatsRequest { user_id: user_id.clone() };
    let cancel = proto::CancelOrderRequest { user_id, order_id };
    let mut client = bench.client(0);
    vec![
        code(client.get_order(ask(asker(), get)).await),
        code(client.watch_order(ask(asker(), watch)).await),
        code(client.get_timeline(ask(asker(), timeline)).await),
        code(client.list_orders(ask(asker(), list)).await),
        code(client.get_user_stats(ask(asker(), stats)).await),
        code(client.place_order(ask(asker(), request(whose, "k", "A", 2))).await),
        code(client.cancel_order(ask(asker(), cancel)).await),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_to_whom_it_is_about_and_reads_of_any_order_to_operators() {
    let bench = Bench::new(json!({}), 1).await;
    let order = bench.place("alice", "k").await.unwrap().order.unwrap().id;
    let refused = |code| vec![Some(code); 7];
    assert_eq!(
        answers(&bench, &order, "alice", || None).await,
        refused(ErrorCode::Unauthenticated),
        "nobody"
    );
    for other in [("bob", Role::Customer), ("olivia", Role::Operator)] {
        let answers = answers(&bench, &order, "alice", || Some(other)).await;
        assert_eq!(answers, refused(ErrorCode::PermissionDenied), "{other:?}");
    }
    let anybodys = answers(&bench, &order, "", || Some(("alice", Role::Customer))).await;
    assert_eq!(anybodys, refused(ErrorCode::PermissionDenied), "a customer about anybody");
    let (may, may_not) = (None, Some(ErrorCode::PermissionDenied));
    let overseen = answers(&bench, &order, "", || Some(("olivia", Role::Operator))).await;
    assert_eq!(overseen, [may, may, may, may_not, may_not, may_not, may_not]);
    let own = answers(&bench, &order, "alice", || Some(("alice", Role::Customer))).await;
    assert_eq!(own, [None; 7]);
}
