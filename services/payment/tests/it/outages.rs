//! A provider that misbehaves as the simulator never does, and a database that keeps the worker
//! waiting.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};
use std::time::Duration;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use portolan_kernel::{Currency, Money, OrderId};
use portolan_payment::{
    ProviderConfig,
    domain::{Answer, CardToken, Status, Step},
    provider::{Provider, Question},
    store,
};
use portolan_runtime::{Context, database, files::POLL, telemetry::TraceContext};
use portolan_testkit::{TestDb, context, eventually};

use crate::support::{AMOUNT, PATIENCE, Shop, new_order, now};

async fn serve(router: Router) -> (Context, String) {
    portolan_runtime::install_crypto();
    let ctx = context();
    portolan_runtime::http::serve(&ctx, router).await.unwrap();
    let url = format!("http://{}", ctx.local_addr().unwrap());
    (ctx, url)
}

/// An approval, followed by spaces up to this many bytes.
fn approval(len: usize) -> String {
    let answer = r#"{"outcome":"approved","reference":"r"}"#;
    answer.to_owned() + &" ".repeat(len.saturating_sub(answer.len()))
}

#[tokio::test]
async fn an_answer_that_is_longer_than_any_real_one_is_no_answer() {
    let body = |len| post(async move || approval(len));
    let router = Router::new()
        .route("/most/v1/authorizations", body(64 * 1024))
        .route("/more/v1/authorizations", body(64 * 1024 + 1));
    let (ctx, url) = serve(router).await;
    let question = Question {
        order: new_order(),
        step: Step::Authorize,
        amount: Some(Money::new(AMOUNT, Currency::GBP)),
        token: Some(CardToken::new("tok_ok".to_owned())),
    };
    let approved = Answer::Approved { reference: "r".to_owned() };
    for (path, answer) in [("most", approved), ("more", Answer::Unknown)] {
        let config = ProviderConfig::new(format!("{url}/{path}"));
        let provider = Provider::new(&config, &ctx, POLL).unwrap();
        assert_eq!(provider.ask(&question, &TraceContext::none()).await, answer, "{path}");
    }
    let _ = ctx.tasks.shutdown(Duration::from_secs(5)).await;
}

/// A provider that is away and comes back, and counts what it is asked.
#[derive(Default)]
struct Outage {
    over: AtomicBool,
    calls: AtomicUsize,
    probes: AtomicUsize,
}

impl Outage {
    fn router(self: &Arc<Self>) -> Router {
        let (calls, probes) = (Arc::clone(self), Arc::clone(self));
        let call = async move || {
            calls.calls.fetch_add(1, SeqCst);
            if calls.over.load(SeqCst) {
                (StatusCode::OK, approval(0))
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, String::new())
            }
        };
        let probe = async move || {
            probes.probes.fetch_add(1, SeqCst);
            if probes.over.load(SeqCst) {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Router::new()
            .route("/v1/authorizations", post(call))
            .route("/v1/operations/{key}", get(probe))
    }

    /// Waits for that many more probes.
    async fn probed(&self, more: usize) {
        let before = self.probes.load(SeqCst);
        eventually(PATIENCE, "probes", async || {
            (self.probes.load(SeqCst) >= before + more).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_left_alone_until_it_answers_again() {
    let outage = Arc::new(Outage::default());
    let (ctx, url) = serve(outage.router()).await;
    let shop = Shop::start(&url, 1).await;
    let calls = shop.provider().concurrency;
    let orders: Vec<OrderId> = (0..3 * calls).map(|_| new_order()).collect();
    for order in &orders {
        shop.reserved(*order, "tok_ok").await;
    }
    // More probes than the check of the readiness makes in that time: the breaker is open.
    outage.probed(5).await;
    let before = outage.calls.load(SeqCst);
    assert!(before >= calls, "{before} calls were unknown before it opened");
    outage.probed(5).await;
    assert_eq!(outage.calls.load(SeqCst), before);
    outage.over.store(true, SeqCst);
    for order in &orders {
        shop.reaches(*order, Status::Authorized).await;
    }
    shop.stop().await;
    let _ = ctx.tasks.shutdown(Duration::from_secs(5)).await;
}

/// How long a provider takes that is slow, but not too slow.
const SLOW: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Approves `tok_slow` slowly and all others at once, and counts.
fn slow_provider(calls: Arc<AtomicUsize>) -> Router {
    let call = async move |request: String| {
        calls.fetch_add(1, SeqCst);
        if request.contains("tok_slow") {
            tokio::time::sleep(SLOW).await;
        }
        approval(0)
    };
    Router::new().route("/v1/authorizations", post(call))
}

#[tokio::test]
async fn an_answer_that_comes_while_the_worker_waits_for_the_database_counts() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (ctx, url) = serve(slow_provider(Arc::clone(&calls))).await;
    let timeout_ms = u64::try_from(TIMEOUT.as_millis()).unwrap();
    let shop = Shop::start_with_timeout(&url, 1, timeout_ms).await;
    // Claims are possible, but no approval can be written down.
    let mut tx = database::begin(shop.db.pool()).await.unwrap();
    let lock = "LOCK TABLE payment_ledger IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *tx).await.unwrap();
    let (slow, quick) = (new_order(), new_order());
    shop.reserved(slow, "tok_slow").await;
    shop.attempted(slow).await;
    shop.reserved(quick, "tok_ok").await;
    // The quick answer keeps the worker waiting until the other call's time has long been up.
    let up = now() + TIMEOUT + Duration::from_millis(500);
    eventually(PATIENCE, "the end of the call's time", async || (now() > up).then_some(())).await;
    tx.rollback().await.unwrap();
    shop.reaches(quick, Status::Authorized).await;
    shop.reaches(slow, Status::Authorized).await;
    assert_eq!(calls.load(SeqCst), 2, "each was asked once");
    shop.stop().await;
    let _ = ctx.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_database_that_is_away_is_told_from_one_answer_that_does_not_fit() {
    let db = TestDb::new(&[&portolan_messaging::MIGRATOR, &portolan_payment::MIGRATOR]).await;
    let slow = "SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)";
    let conflict = "DO $$ BEGIN RAISE deadlock_detected; END $$";
    for (sql, outage) in [(slow, true), (conflict, false), ("SELECT 1 / 0", false)] {
        let mut tx = database::begin(db.pool()).await.unwrap();
        let error = sqlx::raw_sql(sql).execute(&mut *tx).await.unwrap_err();
        assert_eq!(store::Error::from(error).is_outage(), outage, "{sql}");
    }
    db.pool().close().await;
    assert!(store::find(db.pool(), new_order()).await.unwrap_err().is_outage());
    assert!(!store::Error::RowCount(0).is_outage());
}
