//! What a caller with an identity may do.

use std::time::Duration;

use axum::{Extension, Router, routing::get};
use portolan_runtime::{Callers, ConfigError, PeerIdentity, grpc, http as server, metrics};
use portolan_testkit::{TestMesh, context};
use rcgen::SanType;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::mesh::{HELLO, call, client, inventory, stranger, url};

#[tokio::test]
async fn a_caller_is_known_by_its_id() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let answer = call(&client(&mesh, "order", &server), HELLO).await.unwrap();
    assert_eq!(answer["peer"], "spiffe://portolan.test/ns/shop/sa/order");
}

#[tokio::test]
async fn the_wrong_caller_is_denied_and_counted() {
    metrics::install("test").unwrap();
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let denied = call(&client(&mesh, "shipping", &server), HELLO).await.unwrap_err();
    assert_eq!(denied, Code::PermissionDenied);
    let series = format!("portolan_denied_calls_total{{caller=\"shipping\",method=\"{HELLO}\"}} 1");
    let text = metrics::render();
    assert!(text.contains(&series), "{text}");
}

#[tokio::test]
async fn a_method_that_is_not_listed_is_denied_to_everybody_whether_it_exists_or_not() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let order = client(&mesh, "order", &server);
    for method in ["test.Test/Other", "test.Test/Missing", "nothing"] {
        assert_eq!(call(&order, method).await.unwrap_err(), Code::PermissionDenied, "{method}");
    }
}

#[tokio::test]
async fn a_caller_of_another_namespace_is_let_in_and_denied() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let mut params = mesh.params("order");
    let id = "spiffe://portolan.test/ns/other/sa/order";
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    let mut tls = stranger(&mesh, Some(&mesh.ca().issue(&params)));
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
    let call = client.post(format!("{}/{HELLO}", url(&server)));
    let answer = call.header("content-type", "application/grpc").send().await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "7", "PERMISSION_DENIED");
}

#[tokio::test]
async fn everybody_in_the_mesh_may_ask_for_the_health() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let mut health = HealthClient::new(client(&mesh, "payment", &server));
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn without_an_identity_there_is_no_list_and_no_https() {
    let ctx = context();
    crate::mesh::serve(&ctx).await;
    let plain = format!("http://{}", ctx.local_addr().unwrap());
    let answer = call(&grpc::channel(&ctx, &plain, "inventory").unwrap(), "test.Test/Other").await;
    assert_eq!(answer.unwrap()["peer"], "");
    let refused = grpc::channel(&ctx, &url(&ctx), "inventory").unwrap_err();
    assert!(matches!(refused, ConfigError::NoTls));
}

#[tokio::test]
async fn http_within_the_mesh_has_the_same_rules() {
    let mesh = TestMesh::new();
    let ctx = context().with_tls(Some(mesh.load("psp")));
    let hello = async |Extension(PeerIdentity(id)): Extension<PeerIdentity>| id.to_string();
    let callers: Callers = [("payment", ["*"])].into_iter().collect();
    let router = Router::new().route("/charges", get(hello));
    server::serve_mesh(&ctx, router, &callers).await.unwrap();
    let ask = async |component: &str, callee: &str| {
        let (tls, limit) = (mesh.load(component), Duration::from_secs(5));
        let client = server::mesh_client(limit, &tls, callee).unwrap();
        client.get(format!("{}/charges", url(&ctx))).send().await
    };
    let answer = ask("payment", "psp").await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "spiffe://portolan.test/ns/shop/sa/payment");
    assert_eq!(ask("order", "psp").await.unwrap().status().as_u16(), 403);
    assert!(ask("payment", "inventory").await.is_err(), "another component was expected");
}
