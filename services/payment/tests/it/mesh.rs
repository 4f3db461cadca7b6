//! The service and its provider within the mesh, and outside of it.

use std::time::Duration;

use portolan_payment::{
    ProviderConfig, ProviderTls,
    provider::{Provider, Trouble},
    psp,
};
use portolan_runtime::{
    Callers, Context, DatabaseConfig, Service as _, TelemetryConfig, files::POLL,
};
use portolan_testkit::{TestDb, TestMesh, context};
use reqwest::StatusCode;

use crate::support::server;

const KEYS: &str = r#"{"api_key": "a-key"}"#;

/// Starts a provider that is `component` and answers payment alone; returns its URL.
async fn start(mesh: &TestMesh, component: &str, database: DatabaseConfig) -> (Context, String) {
    portolan_runtime::install_crypto();
    let ctx = context().with_tls(Some(mesh.load(component)));
    let address = ctx.local_addr().unwrap();
    let config = psp::Config {
        server: server(address),
        telemetry: TelemetryConfig::default(),
        tls: Some(mesh.config(component)),
        callers: [("payment", ["*"])].into_iter().collect::<Callers>(),
        api_key_file: Some(mesh.file("psp.json", KEYS)),
        database,
        late_ms: 1,
    };
    psp::PspService::serve(config, ctx.clone()).await.unwrap();
    (ctx, format!("https://{address}"))
}

/// What a caller finds who is `component` and shows a key.
async fn check(
    mesh: &TestMesh,
    component: &str,
    url: &str,
    tls: Option<ProviderTls>,
) -> Result<(), Trouble> {
    let ctx = Context::new("payment", None).with_tls(Some(mesh.load(component)));
    let api_key_file = Some(mesh.file("payment.json", KEYS));
    let config = ProviderConfig { tls, api_key_file, ..ProviderConfig::new(url) };
    Provider::new(&config, &ctx, POLL).unwrap().check().await
}

#[tokio::test]
async fn only_payment_may_call_and_only_the_provider_may_answer() {
    let (mesh, db) = (TestMesh::new(), TestDb::new(&[&psp::MIGRATOR]).await);
    let (ctx, url) = start(&mesh, "psp", db.config()).await;
    assert_eq!(check(&mesh, "payment", &url, None).await, Ok(()));
    let forbidden = Err(Trouble::Refused(StatusCode::FORBIDDEN));
    assert_eq!(check(&mesh, "order", &url, None).await, forbidden);
    let stranger = TestMesh::new();
    assert_eq!(check(&stranger, "payment", &url, None).await, Err(Trouble::Silent));

    let (impostor, elsewhere) = start(&mesh, "inventory", db.config()).await;
    assert_eq!(check(&mesh, "payment", &elsewhere, None).await, Err(Trouble::Silent));
    for ctx in [ctx, impostor] {
        let _ = ctx.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn the_mesh_is_not_taken_for_a_public_provider() {
    let (mesh, db) = (TestMesh::new(), TestDb::new(&[&psp::MIGRATOR]).await);
    let (ctx, url) = start(&mesh, "psp", db.config()).await;
    let public = check(&mesh, "payment", &url, Some(ProviderTls::Public)).await;
    assert_eq!(public, Err(Trouble::Silent));
    let _ = ctx.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_mesh_needs_an_identity() {
    let ctx = Context::new("payment", None);
    let tls = Some(ProviderTls::Mesh);
    let config = ProviderConfig { tls, ..ProviderConfig::new("https://psp:8443") };
    let error = Provider::new(&config, &ctx, POLL).unwrap_err().to_string();
    assert!(error.contains("[tls]"), "{error}");
}
