//! The API key between the service and its provider, and how it is replaced.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::Request,
    http::header::AUTHORIZATION,
    middleware::{Next, from_fn},
};
use portolan_kernel::{Currency, Money};
use portolan_payment::{
    ApiKeys, ProviderConfig,
    domain::{Answer, CardToken, Step},
    provider::{Provider, Question, Trouble},
    psp::{self, Simulator},
};
use portolan_runtime::{Context, http, telemetry::TraceContext};
use portolan_testkit::{TestDb, TestMesh, context, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{AMOUNT, PATIENCE, new_order};

const OLD: &str = r#"{"api_key": "the-old-key"}"#;
const NEW: &str = r#"{"api_key": "the-new-key"}"#;
const BOTH: &str = r#"{"api_key": "the-new-key", "previous_api_key": "the-old-key"}"#;

/// A provider that demands a key, and notes which were shown.
struct Psp {
    db: TestDb,
    ctx: Context,
    url: String,
    keys: watch::Sender<Arc<ApiKeys>>,
    shown: Arc<Mutex<Vec<String>>>,
}

impl Psp {
    async fn start(keys: &str) -> Self {
        portolan_runtime::install_crypto();
        let (db, ctx) = (TestDb::new(&[&psp::MIGRATOR]).await, context());
        let keys = watch::Sender::new(Arc::new(ApiKeys::parse(keys.as_bytes()).unwrap()));
        let simulator = Simulator::new(ctx.clone(), db.pool().clone(), Duration::ZERO);
        let shown = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&shown);
        let note = move |request: Request, next: Next| {
            let shown = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
            noted.lock().unwrap().extend(shown.map(str::to_owned));
            next.run(request)
        };
        let router = psp::router(simulator.demanding(keys.subscribe())).layer(from_fn(note));
        http::serve(&ctx, router).await.unwrap();
        let url = format!("http://{}", ctx.local_addr().unwrap());
        Self { db, ctx, url, keys, shown }
    }

    fn read(&self, keys: &str) {
        self.keys.send_replace(Arc::new(ApiKeys::parse(keys.as_bytes()).unwrap()));
    }

    fn was_shown(&self, key: &str) -> bool {
        self.shown.lock().unwrap().contains(&format!("Bearer {key}"))
    }

    async fn rows(&self) -> i64 {
        let sql =
            "SELECT (SELECT count(*) FROM operation) + (SELECT count(*) FROM authorization_state)";
        sqlx::query_scalar(sql).fetch_one(self.db.pool()).await.unwrap()
    }

    async fn stop(self) {
        let _ = self.ctx.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

/// The service's side, with a file of its own.
struct Customer {
    files: TestMesh,
    ctx: Context,
    provider: Provider,
}

impl Customer {
    fn of(psp: &Psp, keys: &str) -> Self {
        let (files, ctx) = (TestMesh::new(), Context::new("payment", None));
        let api_key_file = Some(files.file("provider.json", keys));
        let config = ProviderConfig { api_key_file, ..ProviderConfig::new(psp.url.clone()) };
        let provider = Provider::new(&config, &ctx, Duration::from_millis(20)).unwrap();
        Self { files, ctx, provider }
    }

    fn change_file(&self, keys: &str) {
        self.files.file("provider.json", keys);
    }

    /// A new authorisation, which must be heard.
    async fn authorize(&self) {
        let question = Question {
            order: new_order(),
            step: Step::Authorize,
            amount: Some(Money::new(AMOUNT, Currency::GBP)),
            token: Some(CardToken::new("tok_ok".to_owned())),
        };
        let answer = self.provider.ask(&question, &TraceContext::none()).await;
        assert!(matches!(answer, Answer::Approved { .. }), "{answer:?}");
    }

    /// Makes calls, none of which may fail, until a condition holds.
    async fn authorize_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        eventually(PATIENCE, what, async || {
            self.authorize().await;
            holds().then_some(())
        })
        .await;
    }

    async fn stop(self) {
        let _ = self.ctx.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_call_without_a_key_that_counts_is_told_nothing_and_changes_nothing() {
    let psp = Psp::start(BOTH).await;
    let http = portolan_runtime::http_client(Duration::from_secs(5)).unwrap();
    let void = json!({"idempotency_key": "void:1", "authorization_key": "auth:1"});
    let send = async |method: Method, path: &str, authorization: Option<&str>| {
        let request = http.request(method, format!("{}{path}", psp.url)).json(&void);
        let request = match authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        request.send().await.unwrap()
    };
    let wrong = [None, Some("Bearer the-wrong-key"), Some("Basic the-new-key"), Some("Bearer ")];
    for authorization in wrong {
        for (method, path) in [
            (Method::POST, "/v1/voids"),
            (Method::GET, "/v1/voids"),
            (Method::GET, "/v1/operations/void:1"),
            (Method::GET, "/nowhere"),
        ] {
            let answer = send(method, path, authorization).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path} {authorization:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["code"], "unauthenticated");
            assert!(!problem.to_string().contains("-key"), "{problem}");
        }
    }
    assert_eq!(psp.rows().await, 0);
    for right in ["Bearer the-new-key", "Bearer the-old-key"] {
        let answer = send(Method::POST, "/v1/voids", Some(right)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{right}");
    }
    psp.stop().await;
}

#[tokio::test]
async fn a_key_is_replaced_without_a_failed_call_when_the_customer_reads_it_first() {
    let psp = Psp::start(OLD).await;
    let customer = Customer::of(&psp, OLD);
    customer.authorize().await;
    customer.change_file(BOTH);
    customer.authorize_until("the new key is shown", || psp.was_shown("the-new-key")).await;
    customer.authorize().await;
    psp.read(BOTH);
    customer.authorize().await;
    psp.read(NEW);
    customer.authorize().await;
    psp.stop().await;
    customer.stop().await;
}

#[tokio::test]
async fn a_key_is_replaced_without_a_failed_call_when_the_provider_reads_it_first() {
    let psp = Psp::start(OLD).await;
    let customer = Customer::of(&psp, OLD);
    psp.read(BOTH);
    customer.authorize().await;
    assert!(!psp.was_shown("the-new-key"));
    customer.change_file(BOTH);
    customer.authorize_until("the new key is shown", || psp.was_shown("the-new-key")).await;
    customer.change_file(NEW);
    psp.read(NEW);
    customer.authorize().await;
    psp.stop().await;
    customer.stop().await;
}

#[tokio::test]
async fn a_bad_key_file_leaves_the_old_key_in_use() {
    let psp = Psp::start(BOTH).await;
    let customer = Customer::of(&psp, OLD);
    customer.change_file(r#"{"api_key": ""}"#);
    customer.authorize().await;
    // That it is read at all shows when a good one follows.
    customer.change_file(NEW);
    customer.authorize_until("the new key is shown", || psp.was_shown("the-new-key")).await;
    assert!(!psp.shown.lock().unwrap().iter().any(|shown| shown.trim() == "Bearer"));
    psp.stop().await;
    customer.stop().await;
}

#[tokio::test]
async fn a_provider_that_refuses_the_key_is_no_use() {
    let psp = Psp::start(NEW).await;
    let customer = Customer::of(&psp, OLD);
    let refused = Err(Trouble::Refused(StatusCode::UNAUTHORIZED));
    assert_eq!(customer.provider.check().await, refused);
    psp.read(BOTH);
    assert_eq!(customer.provider.check().await, Ok(()));
    psp.stop().await;
    customer.stop().await;
}
