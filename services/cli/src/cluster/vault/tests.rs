//! What a session does with its token, against something that counts logins. What Vault itself does
//! is tested with a real one, in `tests/cluster`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use portolan_runtime::{install_crypto, one_line};
use serde_json::json;
use tokio::time;

use super::{Endpoint, Login, Server, Session, VaultError};

/// Gives out tokens by number and knows only the latest of them.
#[derive(Clone)]
struct Counter {
    logins: Arc<AtomicU32>,
    lasts: u64,
}

async fn log_in(State(counter): State<Counter>) -> Response {
    let number = counter.logins.fetch_add(1, Ordering::SeqCst) + 1;
    let auth = json!({"client_token": format!("token-{number}"), "lease_duration": counter.lasts});
    Json(json!({"auth": auth})).into_response()
}

async fn read(State(counter): State<Counter>, headers: HeaderMap) -> Response {
    let latest = format!("token-{}", counter.logins.load(Ordering::SeqCst));
    if headers.get("x-vault-token").is_some_and(|token| *token == latest) {
        return Json(json!({"data": {"value": 1}})).into_response();
    }
    (StatusCode::FORBIDDEN, Json(json!({"errors": ["permission denied"]}))).into_response()
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"errors": []}))).into_response()
}

async fn sealed() -> Response {
    let errors = json!({"errors": ["Vault is sealed", "try later"]});
    (StatusCode::SERVICE_UNAVAILABLE, Json(errors)).into_response()
}

fn start(counter: Counter) -> SocketAddr {
    let app = Router::new()
        .route("/v1/auth/kubernetes/login", post(log_in))
        .route("/v1/value", get(read))
        .route("/v1/nothing", get(nothing))
        .route("/v1/sealed", get(sealed))
        .with_state(counter);
    let (ready, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
    });
    address.recv().unwrap()
}

/// A session whose tokens last so many seconds, and the number of its logins.
fn session(lasts: u64) -> (Session, Arc<AtomicU32>) {
    install_crypto();
    let logins = Arc::new(AtomicU32::new(0));
    let address = format!("http://{}", start(Counter { logins: Arc::clone(&logins), lasts }));
    let endpoint = Endpoint { address: &address, server_name: None, ca: None, namespace: None };
    let (mount, role) = ("kubernetes".to_owned(), "configure".to_owned());
    // Any text will do.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into();
    let login = Login::Kubernetes { mount, role, file };
    (Session::new(Server::new(endpoint).unwrap(), login), logins)
}

#[tokio::test]
async fn a_token_is_used_until_its_end_comes_near() {
    for (lasts, wanted) in [(3600, 1), (0, 1), (1, 3)] {
        let (session, logins) = session(lasts);
        for _ in 0..3 {
            assert_eq!(session.read("value").await.unwrap().unwrap()["value"], 1);
        }
        assert_eq!(logins.load(Ordering::SeqCst), wanted, "{lasts} s");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_unless_it_is_new() {
    let (session, logins) = session(3600);
    session.log_in().await.unwrap();
    // The server forgets the token.
    logins.store(7, Ordering::SeqCst);
    let error = session.read("value").await.unwrap_err();
    let line = one_line(&error);
    assert!(matches!(error, VaultError::Denied { .. }), "{line}");
    assert_eq!(line, "GET value: denied by Vault: permission denied");
    assert_eq!(logins.load(Ordering::SeqCst), 7);

    time::pause();
    time::advance(Duration::from_secs(31)).await;
    time::resume();
    assert!(session.read("value").await.unwrap().is_some());
    assert_eq!(logins.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn nothing_is_no_error_and_an_error_has_the_words_of_vault() {
    let (session, _) = session(3600);
    assert!(session.read("nothing").await.unwrap().is_none());
    assert!(session.list("nothing").await.unwrap().is_empty());
    let line = one_line(&session.read("sealed").await.unwrap_err());
    let wanted = "GET sealed: refused by Vault with status 503: Vault is sealed; try later";
    assert_eq!(line, wanted);
}
