use std::sync::Once;

use axum::{Router, response::IntoResponse as _, routing::any};
use http::Request;
use portolan_kernel::ErrorCode;
use portolan_runtime::{
    Callers, Context, Drained, TelemetryConfig,
    grpc::{self, Client, Remote},
    telemetry::{self, TraceContext},
};
use portolan_testkit::{PATIENCE, context, eventually, free_port};
use tonic::{Code, Status, body::Body, service::Routes};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::ServiceExt as _;
use tracing::Instrument as _;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Spans exist only where telemetry is installed, which a process can do once.
fn install_telemetry() {
    static ONCE: Once = Once::new();
    let config = TelemetryConfig {
        log_filter: "portolan_test=info,sqlx=warn".to_owned(),
        ..TelemetryConfig::default()
    };
    ONCE.call_once(|| drop(telemetry::init("test", &config, None).unwrap()));
}

/// Methods that no generated code would have.
fn methods() -> Routes {
    let trace = async || [("trace", TraceContext::current().as_str().to_owned())].into_response();
    Routes::from(
        Router::new()
            .route("/test.Test/Panic", any(async || -> () { panic!("oh") }))
            .route("/test.Test/Hang", any(async || std::future::pending::<()>().await))
            .route("/test.Test/Trace", any(trace)),
    )
}

async fn serve() -> (Context, Client) {
    install_telemetry();
    let ctx = context();
    grpc::serve(&ctx, methods(), &Callers::default()).await.unwrap();
    let client =
        grpc::channel(&ctx, &format!("http://{}", ctx.local_addr().unwrap()), "test").unwrap();
    (ctx, client)
}

fn request(method: &str) -> http::request::Builder {
    Request::post(format!("/test.Test/{method}")).header("content-type", "application/grpc")
}

async fn call(client: &Client, request: http::request::Builder) -> http::Response<Body> {
    client.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn health(client: &Client) -> Result<i32, Status> {
    let request = grpc::deadline(HealthCheckRequest::default(), PATIENCE);
    let response = HealthClient::new(client.clone()).check(request).await?;
    Ok(response.into_inner().status)
}

#[tokio::test]
async fn a_panic_is_internal_for_its_caller_alone() {
    let (_ctx, client) = serve().await;
    let response = call(&client, request("Panic")).await;
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("oh"));
    assert!(health(&client).await.is_ok());
}

#[tokio::test]
async fn the_callers_deadline_ends_the_request_on_the_server() {
    let (_ctx, client) = serve().await;
    let hang = request("Hang").header("grpc-timeout", "50m").body(Body::empty()).unwrap();
    let remote = match client.oneshot(hang).await {
        Ok(response) => Remote::from(Status::from_header_map(response.headers()).unwrap()),
        Err(error) => Remote::from(Status::from_error(Box::new(error))),
    };
    assert_eq!(
        (remote.code, remote.reason.as_str()),
        (ErrorCode::DeadlineExceeded, "deadline_exceeded")
    );
}

#[tokio::test]
async fn a_request_continues_the_trace_of_its_caller() {
    let (_ctx, client) = serve().await;
    let response = call(&client, request("Trace").header("traceparent", PARENT)).await;
    let seen = TraceContext::parse(response.headers()["trace"].to_str().unwrap());
    let parent = TraceContext::parse(PARENT);
    assert_eq!(seen.trace_id(), parent.trace_id());
    assert_ne!(seen, parent, "the request has a span of its own");
}

#[tokio::test]
async fn a_client_sends_the_trace_it_is_in() {
    let (_ctx, client) = serve().await;
    let span = tracing::info_span!(target: "portolan_test", "caller");
    let sent = TraceContext::of(&span);
    let response = call(&client, request("Trace")).instrument(span).await;
    let seen = TraceContext::parse(response.headers()["trace"].to_str().unwrap());
    assert!(sent.trace_id().is_some());
    assert_eq!(seen.trace_id(), sent.trace_id());
}

#[tokio::test]
async fn a_librarys_question_whether_it_may_log_does_not_cut_a_span_from_its_trace() {
    install_telemetry();
    for _ in 0..3 {
        std::hint::black_box(tracing::enabled!(target: "sqlx::query", tracing::Level::WARN));
        let span = tracing::info_span!(target: "portolan_test", "work");
        assert!(!TraceContext::of(&span).is_none());
    }
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one() {
    let (_ctx, client) = serve().await;
    let response = call(&client, request("Trace")).await;
    let seen = TraceContext::parse(response.headers()["trace"].to_str().unwrap());
    assert!(seen.trace_id().is_some());
}

#[tokio::test]
async fn the_health_service_says_what_readiness_says() {
    let (ctx, client) = serve().await;
    assert_eq!(health(&client).await.unwrap(), i32::from(ServingStatus::Serving));
    let check = ctx.readiness.register("database", true);
    for wanted in [ServingStatus::NotServing, ServingStatus::Serving] {
        let probe = async || (health(&client).await.ok()? == i32::from(wanted)).then_some(());
        eventually(PATIENCE, &format!("health is {wanted:?}"), probe).await;
        check.ok();
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let client =
        grpc::channel(&context(), &format!("http://127.0.0.1:{}", free_port()), "test").unwrap();
    let remote = Remote::from(health(&client).await.unwrap_err());
    assert_eq!((remote.code, remote.reason.as_str()), (ErrorCode::Unavailable, "unavailable"));
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_shutdown() {
    let (ctx, client) = serve().await;
    health(&client).await.unwrap();
    assert_eq!(ctx.tasks.shutdown(PATIENCE).await, Drained::InTime);
}

#[test]
fn a_url_without_scheme_or_host_is_refused() {
    for bad in ["", "localhost", "localhost:8441", "ftp://localhost", "http://"] {
        assert!(grpc::check_url(bad).is_err(), "{bad}");
    }
    assert!(grpc::check_url("http://localhost:8441").is_ok());
}
