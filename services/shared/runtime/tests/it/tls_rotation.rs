//! Certificates and roots that change under a running process, and connections that end in time.

use std::{cell::RefCell, collections::BTreeSet, fs, time::Duration};

use http::Request;
use http_body_util::BodyExt as _;
use portolan_runtime::{
    Context, Tls, TlsConfig, grpc, metrics,
    tls::{TlsError, check_identity, check_roots},
};
use portolan_testkit::{PATIENCE, TestCa, TestMesh, context, eventually};
use rcgen::SanType;
use tokio::time::{Instant, timeout};
use tonic::{Code, body::Body};
use tower::ServiceExt as _;

use crate::mesh::{HELLO, call, client, inventory, meet, serve, stranger, url};

#[tokio::test]
async fn a_new_identity_is_shown_from_the_next_handshake_on() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let address = server.local_addr().unwrap();
    let caller = stranger(&mesh, Some(&mesh.ca().issue(&mesh.params("order"))));
    let before = meet(address, &caller).await.unwrap().certificate;
    assert_eq!(meet(address, &caller).await.unwrap().certificate, before);
    mesh.renew("inventory");
    server.tls.as_ref().unwrap().reload().await;
    assert_ne!(meet(address, &caller).await.unwrap().certificate, before);
}

#[tokio::test]
async fn the_files_are_followed_without_being_told() {
    let mesh = TestMesh::new();
    let ctx = context().with_tls(Some(mesh.load("inventory")));
    let tls = ctx.tls.clone().unwrap();
    tls.keep_current(&ctx.tasks);
    let before = tls.expires();
    let mut params = mesh.params("inventory");
    params.not_after = before + Duration::from_hours(1);
    mesh.write_identity("inventory", &mesh.ca().issue(&params));
    eventually(PATIENCE, "the new certificate", async || (tls.expires() > before).then_some(()))
        .await;
}

#[tokio::test]
async fn a_removed_authority_is_refused_at_the_next_connection_and_roots_can_overlap() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let (address, tls) = (server.local_addr().unwrap(), server.tls.clone().unwrap());
    let (old, new) = (mesh.ca().roots(), TestCa::new());
    let of_old = stranger(&mesh, Some(&mesh.ca().issue(&mesh.params("order"))));
    let of_new = stranger(&mesh, Some(&new.issue(&mesh.params("order"))));
    let meets =
        async || [meet(address, &of_old).await.is_ok(), meet(address, &of_new).await.is_ok()];
    assert_eq!(meets().await, [true, false]);
    mesh.write_roots(&format!("{old}{}", new.roots()));
    tls.reload().await;
    assert_eq!(meets().await, [true, true]);
    mesh.write_roots(&new.roots());
    tls.reload().await;
    assert_eq!(meets().await, [false, true]);
}

#[tokio::test]
async fn a_caller_follows_the_roots_as_well() {
    let mesh = TestMesh::new();
    let server = inventory(&mesh).await;
    let order = Context::new("test", None).with_tls(Some(mesh.load("order")));
    let fresh = || grpc::channel(&order, &url(&server), "inventory").unwrap();
    let open = fresh();
    call(&open, HELLO).await.unwrap();
    mesh.write_roots(&TestCa::new().roots());
    order.tls.as_ref().unwrap().reload().await;
    call(&open, HELLO).await.expect("an open connection stays");
    assert_eq!(call(&fresh(), HELLO).await.unwrap_err(), Code::Unavailable);
}

#[tokio::test]
async fn what_is_not_usable_keeps_the_old() {
    metrics::install("test").unwrap();
    let mesh = TestMesh::new();
    let tls = mesh.load("order");
    let before = tls.expires();
    let whole = mesh.ca().issue(&mesh.params("order"));
    let other = mesh.ca().issue(&mesh.params("payment"));
    let (certificates, key) = whole.split_at(whole.find("-----BEGIN PRIVATE").unwrap());
    let foreign_key = &other[other.find("-----BEGIN PRIVATE").unwrap()..];
    let mut late = mesh.params("order");
    late.not_after = late.not_before + Duration::from_mins(1);
    let mut two = mesh.params("order");
    two.subject_alt_names
        .push(SanType::URI("spiffe://portolan.test/ns/shop/sa/x".try_into().unwrap()));
    let bad = [
        ("nothing", String::new()),
        ("half of it", whole[..whole.len() / 2].to_owned()),
        ("all but the end", whole[..whole.len() - 10].to_owned()),
        ("no key", certificates.to_owned()),
        ("no certificate", key.to_owned()),
        ("the key of another", format!("{certificates}{foreign_key}")),
        ("two keys", format!("{whole}{foreign_key}")),
        ("expired", mesh.ca().issue(&late)),
        ("two ids", mesh.ca().issue(&two)),
        ("another component", other.clone()),
    ];
    for (what, pem) in bad {
        mesh.write_identity("order", &pem);
        tls.reload().await;
        assert_eq!(tls.expires(), before, "{what}");
    }
    fs::remove_file(mesh.identity_file("order")).unwrap();
    mesh.write_roots("-----BEGIN CERTIFICATE-----\nMIIB");
    tls.reload().await;
    let server = inventory_of_old_roots(&mesh).await;
    let ctx = Context::new("test", None).with_tls(Some(tls));
    let client = grpc::channel(&ctx, &url(&server), "inventory").unwrap();
    call(&client, HELLO).await.expect("identity and roots of before");
    let text = metrics::render();
    let failed = "portolan_reloads_total{file=\"tls.identity\",result=\"failed\"}";
    let count = text.lines().find_map(|line| line.strip_prefix(failed)).unwrap();
    assert!(count.trim().parse::<u32>().unwrap() >= 10, "{count}");
    assert!(text.contains("portolan_certificate_expiry_timestamp_seconds{file=\"tls.identity\"}"));
}

/// A server whose files are good, beside one whose files were spoilt.
async fn inventory_of_old_roots(mesh: &TestMesh) -> Context {
    let roots = mesh.file("good.pem", &mesh.ca().roots());
    let config = TlsConfig { roots, ..mesh.config("inventory") };
    let ctx = context().with_tls(Some(Tls::load(&config).unwrap()));
    serve(&ctx).await;
    ctx
}

#[test]
fn the_first_identity_must_be_good_and_the_error_names_key_and_file() {
    let mesh = TestMesh::new();
    let mut foreign = mesh.params("order");
    foreign.subject_alt_names =
        vec![SanType::URI("spiffe://portolan.test/ns/other/sa/order".try_into().unwrap())];
    mesh.write_identity("order", &mesh.ca().issue(&foreign));
    let error = Tls::load(&mesh.config("order")).unwrap_err().to_string();
    let file = mesh.identity_file("order");
    let expected = "spiffe://portolan.test/ns/other/sa/order is not of this installation";
    assert_eq!(error, format!("tls.identity {}: {expected}", file.display()));
}

#[test]
fn files_for_other_libraries_are_checked_the_same_way() {
    let ca = TestCa::new();
    let client = ca.client("order", Duration::from_hours(1));
    check_identity(client.as_bytes()).unwrap();
    let cut = &client.as_bytes()[..client.len() - 5];
    assert_eq!(check_identity(cut).unwrap_err(), TlsError::Pem);
    assert_eq!(check_roots(ca.roots().as_bytes()), Ok(1));
    assert_eq!(check_roots(b""), Err(TlsError::NoRoots));
}

#[tokio::test]
async fn connections_end_in_time_and_no_call_fails() {
    let mesh = TestMesh::new();
    let age = Duration::from_secs(1);
    let server = context().with_tls(Some(mesh.load("inventory"))).with_max_connection_age(age);
    serve(&server).await;
    let client = client(&mesh, "order", &server);
    let connections = RefCell::new(BTreeSet::new());
    let caller = async || {
        while connections.borrow().len() < 5 {
            let answer = call(&client, HELLO).await.expect("no call fails");
            connections.borrow_mut().insert(answer["address"].clone());
        }
    };
    let all = futures::future::join_all((0..50).map(|_| caller()));
    timeout(PATIENCE * 12, all).await.expect("one connection follows another");
}

#[tokio::test]
async fn a_call_that_outlives_its_connection_twice_is_cut_off() {
    let mesh = TestMesh::new();
    let age = Duration::from_millis(200);
    let server = context().with_tls(Some(mesh.load("inventory"))).with_max_connection_age(age);
    let callers = [("order", ["*"])].into_iter().collect();
    grpc::serve(&server, crate::mesh::methods(), &callers).await.unwrap();
    let request = Request::post("/test.Test/Stream").body(Body::empty()).unwrap();
    let begun = Instant::now();
    let stream = client(&mesh, "order", &server).oneshot(request).await.unwrap();
    let ended = timeout(PATIENCE, stream.into_body().collect()).await.expect("it is cut off");
    assert!(ended.is_err());
    assert!(begun.elapsed() >= age * 19 / 10, "{:?}", begun.elapsed());
}
