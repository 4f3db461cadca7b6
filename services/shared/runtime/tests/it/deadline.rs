use std::time::Duration;

use axum::{Router, routing::any};
use http::Request;
use portolan_runtime::{
    Callers, DatabaseConfig, database,
    deadline::within,
    grpc::{self, Remote},
};
use portolan_testkit::{PATIENCE, TestDb, context, eventually};
use sqlx::PgPool;
use tonic::{body::Body, service::Routes};
use tower::ServiceExt as _;

const HOUR: Duration = Duration::from_hours(1);

/// In milliseconds.
async fn limit_of(connection: &mut sqlx::PgConnection) -> i64 {
    let limit = "SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'";
    sqlx::query_scalar(limit).fetch_one(connection).await.unwrap()
}

/// With one connection, so that whatever was done to it would be seen.
async fn pool(db: &TestDb, statement_timeout_ms: u64) -> PgPool {
    let config = DatabaseConfig { statement_timeout_ms, max_connections: 1, ..db.config() };
    database::connect(&context(), &config).await.unwrap()
}

#[tokio::test]
async fn a_statement_may_take_what_is_left_of_the_callers_time_and_never_more_than_usual() {
    let db = TestDb::new(&[]).await;
    let pool = pool(&db, 7_000_000).await;
    let reading = async || limit_of(&mut database::acquire(&pool).await.unwrap()).await;
    let writing = async || limit_of(&mut database::begin(&pool).await.unwrap()).await;
    for limit in [within(HOUR, reading()).await.unwrap(), within(HOUR, writing()).await.unwrap()] {
        assert!((1..=3_600_000).contains(&limit), "{limit}");
    }
    for limit in [
        within(3 * HOUR, reading()).await.unwrap(),
        within(3 * HOUR, writing()).await.unwrap(),
        reading().await,
        writing().await,
    ] {
        assert_eq!(limit, 7_000_000);
    }
}

#[tokio::test]
async fn a_slow_statement_is_cancelled_when_the_time_of_the_caller_is_over() {
    let db = TestDb::new(&[]).await;
    let pool = pool(&db, 3_600_000).await;
    let ctx = context();
    let slow = {
        let pool = pool.clone();
        async move || {
            let mut connection = database::acquire(&pool).await.unwrap();
            let sleep = sqlx::query("SELECT pg_sleep(3600)").execute(&mut *connection).await;
            // The server's clock and ours may find in either order that the time is over.
            drop((sleep, connection));
            std::future::pending::<()>().await;
        }
    };
    let routes = Routes::from(Router::new().route("/test.Test/Slow", any(slow)));
    grpc::serve(&ctx, routes, &Callers::default()).await.unwrap();
    let url = format!("http://{}", ctx.local_addr().unwrap());
    let client = grpc::channel(&ctx, &url, "test").unwrap();

    let running = async |expected: i64| {
        let count = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND state = 'active'
                         AND query = 'SELECT pg_sleep(3600)'";
        let what = format!("{expected} statements sleep");
        eventually(PATIENCE, &what, async || {
            let found: i64 = sqlx::query_scalar(count).fetch_one(db.pool()).await.unwrap();
            (found == expected).then_some(())
        })
        .await;
    };
    let request = Request::post("/test.Test/Slow").header("grpc-timeout", "5S");
    let call = client.oneshot(request.body(Body::empty()).unwrap());
    let (answer, ()) = tokio::join!(call, running(1));
    let status = match answer {
        Ok(response) => tonic::Status::from_header_map(response.headers()).unwrap(),
        Err(status) => status,
    };
    assert_eq!(Remote::from(status).reason, "deadline_exceeded");
    running(0).await;
    // The only place in the pool is free for the next request.
    let next = async || database::acquire(&pool).await.ok();
    let mut next = eventually(PATIENCE, "a connection", next).await;
    assert_eq!(limit_of(&mut next).await, 3_600_000);
}
