use portolan_runtime::{TelemetryConfig, telemetry, database, DatabaseConfig};
use sqlx::ConnectOptions as _;
#[tokio::test]
async fn probe() {
    telemetry::init("x", &TelemetryConfig::default()).unwrap();
    let url = std::env::var("PORTOLAN_TEST_DATABASE_URL").unwrap();
    let o = database::options(&DatabaseConfig::new(url)).unwrap();
    for (name, o) in [("default", o.clone()), ("disabled", o.disable_statement_logging())] {
        let mut c = o.connect().await.unwrap();
        sqlx::query("SELECT 1").execute(&mut c).await.unwrap();
        tracing::info!(target: "portolan", name, "first after a query");
        tracing::info!(target: "portolan", name, "second after a query");
        sqlx::query("SELECT 1").execute(&mut c).await.unwrap();
        let span = tracing::info_span!(target: "portolan", "s");
        eprintln!("{name}: span context none: {}", telemetry::TraceContext::of(&span).is_none());
    }
}
