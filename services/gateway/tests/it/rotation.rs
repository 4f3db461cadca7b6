//! Keys and users of the built-in issuer that change while the gateway runs. Time is the test's: a
//! file is read again as soon as there is nothing else to do.

use std::{fs, path::Path, time::Duration};

use axum::body::Body;
use http::{Method, Request};
use portolan_auth::{Issuer, Role, create_key_file, hash_password};
use portolan_gateway::App;
use portolan_runtime::Context;
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Gateway, ISSUER, config, request, scratch};

/// Longer than the files are left unread.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// A file appears whole, as an agent replaces it.
fn replace(path: &Path, content: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, content).unwrap();
    fs::rename(draft, path).unwrap();
}

/// The names of the published keys.
async fn kids(gateway: &Gateway) -> Vec<Value> {
    let public = Request::builder().uri("/.well-known/jwks.json").body(Body::empty()).unwrap();
    let document = gateway.send(public).await.json();
    document["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
}

/// The status of a log-in.
async fn log_in(gateway: &Gateway, name: &str, password: &str) -> u16 {
    let credentials = json!({"username": name, "password": password}).to_string();
    gateway.post("/v1/tokens", credentials).await.status.as_u16()
}

/// Whether a token counts. It is one without roles, which is worth nothing but is told from a false
/// one.
async fn counts(gateway: &Gateway, token: &str) -> bool {
    let answer = gateway.send(request(Method::GET, "/v1/me/stats", token, Body::empty())).await;
    let status = answer.status.as_u16();
    assert!(matches!(status, 401 | 403), "{status}");
    status == 403
}

#[tokio::test(start_paused = true)]
async fn a_key_is_published_before_it_signs_and_counts_until_it_is_taken_away() {
    let gateway = Gateway::start().await;
    let (file, other) = (gateway.directory.join("issuer.pem"), gateway.directory.join("new.pem"));
    create_key_file(&other).unwrap();
    let (old, new) = (fs::read_to_string(&file).unwrap(), fs::read_to_string(&other).unwrap());
    let (first, second) = (kids(&gateway).await.remove(0), {
        let jwks = Issuer::open(&other, ISSUER, AUDIENCE).unwrap().jwks();
        json!(jwks.keys[0].kid)
    });
    let token = gateway.token("alice", &[] as &[Role]);

    replace(&file, &format!("{old}{new}"));
    tokio::time::sleep(READ_AGAIN).await;
    assert_eq!(kids(&gateway).await, [first.clone(), second.clone()]);
    replace(&file, &format!("{new}{old}"));
    tokio::time::sleep(READ_AGAIN).await;
    assert_eq!(kids(&gateway).await, [second.clone(), first]);
    assert!(counts(&gateway, &token).await, "the old key still counts");
    replace(&file, &new);
    tokio::time::sleep(READ_AGAIN).await;
    assert_eq!(kids(&gateway).await, [second]);
    assert!(!counts(&gateway, &token).await, "it does no more");
    assert_eq!(log_in(&gateway, "alice", "wonderland").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_file_leaves_the_old_keys_in_use_until_a_good_one_comes() {
    let gateway = Gateway::start().await;
    let file = gateway.directory.join("issuer.pem");
    let (old, before) = (fs::read_to_string(&file).unwrap(), kids(&gateway).await);
    let token = gateway.token("alice", &[] as &[Role]);
    for bad in ["", "remember the milk", &old[..old.len() / 2]] {
        replace(&file, bad);
        tokio::time::sleep(READ_AGAIN).await;
        assert_eq!(kids(&gateway).await, before, "{bad}");
        assert!(counts(&gateway, &token).await);
        assert_eq!(log_in(&gateway, "alice", "wonderland").await, 200);
    }
    fs::remove_file(&file).unwrap();
    tokio::time::sleep(READ_AGAIN).await;
    assert_eq!(kids(&gateway).await, before, "not even when it is gone");
    create_key_file(&file).unwrap();
    tokio::time::sleep(READ_AGAIN).await;
    assert_ne!(kids(&gateway).await, before);
}

#[tokio::test(start_paused = true)]
async fn users_come_and_go_with_their_file_and_those_of_the_configuration_stay() {
    let directory = scratch();
    let file = directory.join("users.json");
    let user = |name: &str, password: &str| {
        let hash = hash_password(password).unwrap();
        json!({"username": name, "password_hash": hash, "roles": ["customer"]})
    };
    replace(&file, &json!([user("bob", "builder")]).to_string());
    let gateway = Gateway::with(|config| config.dev_issuer.users_file = Some(file.clone())).await;
    assert_eq!(log_in(&gateway, "bob", "builder").await, 200);
    assert_eq!(log_in(&gateway, "olga", "opera").await, 401);

    replace(&file, &json!([user("olga", "opera"), user("bob", "banker")]).to_string());
    tokio::time::sleep(READ_AGAIN).await;
    for (name, password, status) in
        [("olga", "opera", 200), ("bob", "banker", 200), ("bob", "builder", 401)]
    {
        assert_eq!(log_in(&gateway, name, password).await, status, "{name} {password}");
    }
    let taken = json!([user("alice", "other")]).to_string();
    for bad in
        [taken.as_str(), "[{}]", "", r#"[{"username":"eve","password_hash":"x","roles":[]}]"#]
    {
        replace(&file, bad);
        tokio::time::sleep(READ_AGAIN).await;
        assert_eq!(log_in(&gateway, "olga", "opera").await, 200, "{bad}");
    }
    replace(&file, "[]");
    tokio::time::sleep(READ_AGAIN).await;
    assert_eq!(log_in(&gateway, "olga", "opera").await, 401);
    assert_eq!(log_in(&gateway, "alice", "wonderland").await, 200);
    fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_missing_file_is_an_error_unless_it_is_a_key_that_may_be_made() {
    let directory = scratch();
    let key_file = directory.join("issuer.pem");
    let start = |change: fn(&mut portolan_gateway::DevIssuerConfig)| {
        let mut config = config("http://127.0.0.1:1".to_owned(), key_file.clone());
        change(&mut config.dev_issuer);
        App::new(&config, &Context::new("gateway", None)).map(drop)
    };
    let problem = start(|dev| dev.create_key = false).unwrap_err().to_string();
    assert!(problem.contains("dev_issuer.key_file") && problem.contains("issuer.pem"), "{problem}");
    assert!(!key_file.exists(), "nothing was made");
    let nowhere = |dev: &mut portolan_gateway::DevIssuerConfig| {
        dev.users_file = Some("/nowhere/users.json".into());
    };
    let problem = start(nowhere).unwrap_err().to_string();
    assert!(problem.contains("/nowhere/users.json"), "{problem}");
    assert!(key_file.exists(), "the key was made");
    start(|dev| dev.create_key = false).unwrap();
    fs::remove_dir_all(directory).unwrap();
}
