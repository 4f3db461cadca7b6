use std::path::PathBuf;

use portolan_lock::LockConfig;
use portolan_testkit::{TestMesh, TestRedis, eventually};

use crate::support::{Bench, PATIENCE, three};

fn with(mesh: &TestMesh, identity: Option<PathBuf>) -> impl FnOnce(&mut LockConfig) {
    let roots = mesh.roots_file();
    move |config| {
        config.tls_roots = Some(roots);
        config.tls_identity = identity;
    }
}

#[tokio::test]
async fn masters_are_verified_and_shown_our_certificate() {
    let mesh = TestMesh::new();
    let servers = three(|| TestRedis::with_tls(&mesh));
    let order = mesh.config("order").identity;
    let bench = Bench::with(servers, with(&mesh, Some(order))).await;
    assert!(bench.acquire("order").await.unwrap().is_valid());
}

#[tokio::test]
async fn who_is_not_let_in_at_first_is_let_in_with_new_certificates_without_a_restart() {
    let (mesh, stranger) = (TestMesh::new(), TestMesh::new());
    let servers = three(|| TestRedis::with_tls(&mesh));
    let order = mesh.config("order").identity;
    stranger.config("order");
    let foreign = std::fs::read_to_string(stranger.identity_file("order")).unwrap();
    mesh.write_identity("order", &foreign);
    let mut config = crate::support::patient(&servers);
    with(&mesh, Some(order))(&mut config);
    let ctx = portolan_testkit::context();
    let lock = portolan_lock::Redlock::start(&ctx, &config).unwrap();
    assert!(lock.acquire("alice", "order", 0).await.is_err());
    mesh.renew("order");
    eventually(PATIENCE, "the masters let us in", async || {
        lock.acquire("alice", "order", 0).await.ok()
    })
    .await;
    ctx.tasks.hard().cancel();
}
