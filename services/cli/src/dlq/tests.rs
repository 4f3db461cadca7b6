//! The command against a gateway whose group `payment` is down, and whose other groups have more
//! dead letters than one page.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use serde_json::json;

use super::*;

/// A page of the gateway.
const PAGE: usize = 2;

/// The dead letters of every group, and what was asked for.
#[derive(Debug, Default)]
struct Shop {
    letters: Vec<String>,
    dropped: Vec<(String, String)>,
}

type Shared = Arc<Mutex<Shop>>;

fn letter(group: &str, event: &str) -> Value {
    json!({
        "group": group, "event_id": event, "key": format!("key of {event}"), "type": "t",
        "reason": "invalid_event", "detail": "why", "since": "2026-11-21T08:00:00Z", "waiting": 1,
        "trace_id": "", "topic": "t", "partition": 0, "offset": 0,
    })
}

async fn page(
    State(shop): State<Shared>,
    Query(query): Query<std::collections::HashMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    let group = query["group"].as_str();
    if group == "payment" {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let from: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let shop = shop.lock().unwrap();
    let key = query.get("key");
    let all: Vec<Value> = shop
        .letters
        .iter()
        .map(|event| letter(group, event))
        .filter(|letter| key.is_none_or(|key| letter["key"] == key.as_str()))
        .collect();
    let next = (all.len() > from + PAGE).then(|| (from + PAGE).to_string());
    let letters: Vec<_> = all.into_iter().skip(from).take(PAGE).collect();
    Ok(Json(json!({"dead_letters": letters, "next_cursor": next})))
}

/// Every drop makes what waited behind it a dead letter.
async fn dropped(
    State(shop): State<Shared>,
    Path(group): Path<String>,
    Json(order): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let mut shop = shop.lock().unwrap();
    let event = order["event_id"].as_str().unwrap().to_owned();
    shop.letters.push(format!("behind {event}"));
    if event == "e-1" {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    shop.dropped.push((group.clone(), event));
    let done = json!({
        "group": group, "key": "k", "outcome": "APPLIED", "applied": 1, "waiting": 0, "fault": null,
    });
    Ok(Json(json!({"results": [done], "next_cursor": null})))
}

async fn gateway(letters: &[&str]) -> (Target, Shared) {
    let letters = letters.iter().map(|&event| event.to_owned()).collect();
    let shop = Arc::new(Mutex::new(Shop { letters, dropped: Vec::new() }));
    let app = Router::new()
        .route("/v1/admin/dlq", get(page))
        .route("/v1/admin/dlq/{group}/drop", post(dropped))
        .with_state(Arc::clone(&shop));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (Target::at(base), shop)
}

fn order(group: Option<&str>, key: Option<&str>) -> Remedy {
    let (group, key) = (group.map(str::to_owned), key.map(str::to_owned));
    let which = Which { all: key.is_none(), key, event: None };
    Remedy { group, which, reason: "no".to_owned() }
}

#[tokio::test]
async fn dropping_all_drops_what_there_is_at_the_beginning_whatever_is_in_the_way_of_some() {
    portolan_runtime::install_crypto();
    let (target, shop) = gateway(&["e-0", "e-1", "e-2", "e-3", "e-4"]).await;
    let one = order(Some("order"), None);
    let code = remedy::run(&target, Kind::Drop, &one, true).await.unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE), "one remains");
    let expected = ["e-0", "e-2", "e-3", "e-4"].map(|event| ("order".to_owned(), event.to_owned()));
    assert_eq!(shop.lock().unwrap().dropped, expected);
}

#[tokio::test]
async fn a_group_that_is_down_does_not_keep_the_others_from_anything() {
    portolan_runtime::install_crypto();
    let (target, shop) = gateway(&["e-0"]).await;
    let code = list(&target, None, None, true).await.unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    let code = list(&target, Some("order"), None, true).await.unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    remedy::run(&target, Kind::Drop, &order(None, None), true).await.unwrap();
    let groups: Vec<_> =
        shop.lock().unwrap().dropped.iter().map(|(group, _)| group.clone()).collect();
    for group in ["order", "inventory", "notification"] {
        assert!(groups.iter().any(|seen| seen == group), "{group}: {groups:?}");
    }
}

#[tokio::test]
async fn a_key_stands_for_its_one_dead_letter() {
    portolan_runtime::install_crypto();
    let (target, shop) = gateway(&["e-0", "e-7", "e-7"]).await;
    let one = order(Some("order"), Some("key of e-0"));
    remedy::run(&target, Kind::Drop, &one, true).await.unwrap();
    for unclear in ["key of nothing", "key of e-7"] {
        let order = order(Some("order"), Some(unclear));
        remedy::run(&target, Kind::Drop, &order, true).await.unwrap();
    }
    assert_eq!(shop.lock().unwrap().dropped, [("order".to_owned(), "e-0".to_owned())]);
}
