use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use axum::{body::Body, extract::ConnectInfo};
use http::{Method, Request};
use portolan_auth::Role;
use portolan_gateway::{Config, QuotaConfig, Rate};
use portolan_testkit::{PATIENCE, TestRedis, eventually};
use serde_json::Value;
use sfv::{BareItem, ListEntry, Parser};

use crate::{
    double::ORDER_ID,
    support::{Answer, GOOD_ORDER, Gateway, request},
};

const COMMITTED: &str = include_str!("../../../../docs/openapi.json");

/// A budget of which nothing comes back while a test runs.
const fn only(requests: u32) -> Rate {
    Rate { requests, per_secs: 86_400 }
}

fn bare(method: Method, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}

/// A request over a connection from `address`.
fn from(address: &str, mut request: Request<Body>) -> Request<Body> {
    let address: IpAddr = address.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((address, 40_000))));
    request
}

/// A list of strings with whole numbers as parameters, read as the standard says (RFC 9651).
fn list(field: &str) -> BTreeMap<String, BTreeMap<String, i64>> {
    let list: sfv::List = Parser::new(field).parse().unwrap();
    let item = |entry: &ListEntry| {
        let ListEntry::Item(item) = entry else { unreachable!("an inner list in {field}") };
        let number = |(key, value): (&sfv::Key, &BareItem)| {
            (key.as_str().to_owned(), i64::from(value.as_integer().unwrap()))
        };
        let name = item.bare_item.as_string().unwrap().as_str().to_owned();
        (name, item.params.iter().map(number).collect())
    };
    list.iter().map(item).collect()
}

/// The names of the policies that counted the request; both fields must agree about them.
fn policies(answer: &Answer) -> Vec<String> {
    let (policies, limits) =
        (list(answer.header("ratelimit-policy")), list(answer.header("ratelimit")));
    assert_eq!(policies.keys().collect::<Vec<_>>(), limits.keys().collect::<Vec<_>>());
    for (name, policy) in &policies {
        let limit = &limits[name];
        assert_eq!(policy.keys().collect::<Vec<_>>(), ["q", "w"]);
        assert_eq!(limit.keys().collect::<Vec<_>>(), ["r", "t"]);
        assert!(policy["q"] > 0 && policy["w"] > 0 && limit["t"] > 0);
        assert!((0..policy["q"]).contains(&limit["r"]), "{limit:?} of {policy:?}");
    }
    policies.into_keys().collect()
}

/// Fails unless the answer says that this policy's budget is used up, and when to come back.
fn assert_refused(answer: &Answer, policy: &str) {
    answer.problem(429, "rate_limited");
    assert!(policies(answer).contains(&policy.to_owned()));
    let standing = &list(answer.header("ratelimit"))[policy];
    assert_eq!(standing["r"], 0);
    assert_eq!(answer.header("retry-after"), standing["t"].to_string(), "the same moment");
}

#[tokio::test]
async fn every_operation_is_counted_and_says_how_the_caller_stands() {
    let gateway = Gateway::start().await;
    let token = gateway.token("alice", &[Role::Customer, Role::Operator]);
    let description: Value = serde_json::from_str(COMMITTED).unwrap();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let reads = method == Method::GET;
            // There is no such thing, so that no stream begins.
            let address = path.replace("{id}", "none").replace("{sku}", "85123A");
            let address = address.replace("{group}", "order").replace("{event_id}", ORDER_ID);
            let answer = gateway.send(request(method, &address, &token, "")).await;
            let expected = match operation["security"][0].get("bearer") {
                Some(_) if reads => "read",
                Some(_) => "write",
                None if path == "/v1/tokens" => "token",
                None => "anonymous",
            };
            assert_eq!(policies(&answer), [expected], "{path}: {}", answer.status);
        }
    }
    for (method, path) in [(Method::GET, "/nowhere"), (Method::PUT, "/v1/products")] {
        assert_eq!(policies(&gateway.send(bare(method, path)).await), ["anonymous"]);
    }
}

#[tokio::test]
async fn what_is_left_is_counted_down_and_then_refused() {
    let gateway = Gateway::with(|config| config.rates.anonymous = only(3)).await;
    let products = async || gateway.send(bare(Method::GET, "/v1/products")).await;
    for left in [2, 1, 0] {
        let answer = products().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), "\"anonymous\";q=3;w=86400");
        assert_eq!(list(answer.header("ratelimit"))["anonymous"]["r"], left);
    }
    let calls = gateway.double.calls();
    let refused = products().await;
    assert_refused(&refused, "anonymous");
    // Jitter: up to a tenth more.
    let seconds: u32 = refused.header("retry-after").parse().unwrap();
    assert!((28_000..=28_800 * 11 / 10 + 1).contains(&seconds), "{seconds}");
    assert_eq!(gateway.double.calls(), calls, "nobody was called for it");
}

#[tokio::test]
async fn guessing_passwords_has_a_budget_of_its_own() {
    let gateway = Gateway::with(|config| config.rates.token = only(2)).await;
    let guess = async |address: &str| {
        let body = r#"{"username":"alice","password":"guess"}"#;
        gateway.send(from(address, request(Method::POST, "/v1/tokens", "", body))).await
    };
    for _ in 0..2 {
        guess("192.0.2.1").await.problem(401, "invalid_credentials");
    }
    assert_refused(&guess("192.0.2.1").await, "token");
    guess("192.0.2.2").await.problem(401, "invalid_credentials");
    let products = gateway.send(from("192.0.2.1", bare(Method::GET, "/v1/products"))).await;
    assert_eq!(products.status, 200);
}

#[tokio::test]
async fn subjects_have_their_own_budgets_for_reading_and_writing() {
    let gateway = Gateway::with(|config| config.rates.write = only(1)).await;
    assert_eq!(gateway.place("1", GOOD_ORDER).await.status, 202);
    assert_refused(&gateway.place("2", GOOD_ORDER).await, "write");
    assert_eq!(gateway.get("/v1/me/stats").await.status, 200);
    let bob = gateway.token("bob", &[Role::Customer]);
    let path = format!("/v1/orders/{ORDER_ID}/cancel");
    let other = gateway.send(request(Method::POST, &path, &bob, "")).await;
    assert_ne!(other.status, 429);
}

#[tokio::test]
async fn whoever_shows_a_forged_token_takes_nothing_from_the_subject_it_names() {
    let gateway = Gateway::with(|config| config.rates.read = only(1)).await;
    let stranger = Gateway::start().await;
    let stats = async |token: &str| {
        gateway.send(request(Method::GET, "/v1/me/stats", token, Body::empty())).await
    };
    for _ in 0..3 {
        let forged = stats(&stranger.alice()).await;
        forged.problem(401, "invalid_token");
        assert_eq!(policies(&forged), ["anonymous"], "nothing is told about alice");
    }
    assert_eq!(stats(&gateway.alice()).await.status, 200);
    assert_refused(&stats(&gateway.alice()).await, "read");
}

#[tokio::test]
async fn whoever_asks_for_what_is_forbidden_is_counted_like_anybody() {
    let gateway = Gateway::with(|config| config.rates.read = only(2)).await;
    let token = gateway.token("olga", &[Role::Operator]);
    let stats =
        async || gateway.send(request(Method::GET, "/v1/me/stats", &token, Body::empty())).await;
    for _ in 0..2 {
        let forbidden = stats().await;
        forbidden.problem(403, "forbidden");
        assert_eq!(policies(&forbidden), ["read"]);
    }
    assert_refused(&stats().await, "read");
}

#[tokio::test]
async fn those_without_a_good_token_use_up_a_strangers_budget() {
    let gateway = Gateway::with(|config| config.rates.anonymous = only(2)).await;
    let stats = async |token: &str| {
        gateway.send(request(Method::GET, "/v1/me/stats", token, Body::empty())).await
    };
    for _ in 0..2 {
        stats("nonsense").await.problem(401, "invalid_token");
    }
    assert_refused(&stats("nonsense").await, "anonymous");
    assert_eq!(stats(&gateway.alice()).await.status, 200, "who has one is not a stranger");
}

/// How many of ten requests a gateway answers that come from one client who says, each time anew,
/// that it is another.
async fn answered(change: impl FnOnce(&mut Config), through: &str) -> usize {
    let gateway = Gateway::with(change).await;
    let mut answered = 0;
    for number in 0..10 {
        let mut request = from("192.0.2.1", bare(Method::GET, "/v1/products"));
        let forwarded = format!("198.51.100.{number}{through}");
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        answered += usize::from(gateway.send(request).await.status == 200);
    }
    answered
}

#[tokio::test]
async fn nobody_becomes_another_by_a_header() {
    let limited = |proxies: usize| {
        move |config: &mut Config| {
            config.rates.anonymous = only(2);
            config.rates.trusted_proxies = proxies;
        }
    };
    assert_eq!(answered(limited(0), "").await, 2);
    assert_eq!(answered(limited(1), ", 203.0.113.7").await, 2);
    assert_eq!(answered(limited(2), ", 203.0.113.7, 192.0.2.9").await, 2);
    assert_eq!(answered(limited(1), "").await, 10, "that entry is our proxy's: ten clients");
}

/// A gateway with a quota of so many writes, whose patience does not depend on how busy the machine
/// is, when it has found its server.
async fn with_quota(server: &TestRedis, writes: u32) -> Gateway {
    let mut quota = QuotaConfig::new(server.address());
    (quota.write, quota.timeout_ms) = (only(writes), 20_000);
    let gateway = Gateway::with(|config| config.quota = Some(quota)).await;
    eventually(PATIENCE, "the quota's server counts", async || counts_reads(&gateway).await).await;
    gateway
}

async fn counts_reads(gateway: &Gateway) -> Option<()> {
    let answer = gateway.get("/v1/me/stats").await;
    assert_eq!(answer.status, 200, "reads pass whatever the server does");
    policies(&answer).contains(&"read-quota".to_owned()).then_some(())
}

#[tokio::test]
async fn two_gateways_together_admit_no_more_than_the_quota() {
    let server = TestRedis::new();
    let gateways = [with_quota(&server, 25).await, with_quota(&server, 25).await];
    let place = async |number: usize| {
        gateways[number % 2].place(&format!("order-{number}"), GOOD_ORDER).await
    };
    let answers = futures::future::join_all((0..80).map(place)).await;
    let (admitted, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 202);
    assert_eq!(admitted.len(), 25);
    for answer in refused {
        assert_eq!(policies(answer), ["write", "write-quota"]);
        assert_refused(answer, "write-quota");
    }
    let placed = |gateway: &Gateway| gateway.double.placed().len();
    assert_eq!(gateways.iter().map(placed).sum::<usize>(), 25, "the others reached nobody");
    let bob = gateways[0].token("bob", &[Role::Customer]);
    let mut other = request(Method::POST, "/v1/orders", &bob, GOOD_ORDER);
    other.headers_mut().insert("idempotency-key", "bob-1".parse().unwrap());
    assert_eq!(gateways[0].send(other).await.status, 202, "everybody has their own");
}

#[tokio::test]
async fn a_budget_of_this_process_is_asked_before_the_quota() {
    let server = TestRedis::new();
    let mut quota = QuotaConfig::new(server.address());
    (quota.write, quota.timeout_ms) = (only(10), 20_000);
    let gateway = Gateway::with(|config| {
        config.quota = Some(quota);
        config.rates.write = only(1);
    })
    .await;
    eventually(PATIENCE, "the quota's server counts", async || counts_reads(&gateway).await).await;
    let first = gateway.place("1", GOOD_ORDER).await;
    assert_eq!(list(first.header("ratelimit"))["write-quota"]["r"], 9);
    let second = gateway.place("2", GOOD_ORDER).await;
    assert_refused(&second, "write");
    assert_eq!(policies(&second), ["write"], "the quota was not asked");
}

#[tokio::test]
async fn without_the_quotas_server_reads_pass_and_each_gateway_counts_writes_for_itself() {
    let mut server = TestRedis::new();
    let gateways = [with_quota(&server, 2).await, with_quota(&server, 2).await];
    server.kill();
    for gateway in &gateways {
        eventually(PATIENCE, "it is missed", async || {
            counts_reads(gateway).await.is_none().then_some(())
        })
        .await;
        for key in ["1", "2"] {
            assert_eq!(gateway.place(key, GOOD_ORDER).await.status, 202);
        }
        assert_refused(&gateway.place("3", GOOD_ORDER).await, "write-quota");
    }
    server.restart();
    for gateway in &gateways {
        eventually(PATIENCE, "it counts again", async || counts_reads(gateway).await).await;
    }
    let [one, other] = &gateways;
    assert_eq!(one.place("4", GOOD_ORDER).await.status, 202, "it had forgotten");
    assert_eq!(other.place("5", GOOD_ORDER).await.status, 202);
    assert_refused(&one.place("6", GOOD_ORDER).await, "write-quota");
}

#[tokio::test]
async fn while_the_quotas_server_stands_still_customers_are_served() {
    let server = TestRedis::new();
    let mut quota = QuotaConfig::new(server.address());
    quota.timeout_ms = 50;
    let gateway = Gateway::with(|config| config.quota = Some(quota)).await;
    eventually(PATIENCE, "the quota's server counts", async || counts_reads(&gateway).await).await;
    server.freeze();
    eventually(PATIENCE, "it is missed", async || {
        counts_reads(&gateway).await.is_none().then_some(())
    })
    .await;
    assert_eq!(gateway.place("1", GOOD_ORDER).await.status, 202);
    server.thaw();
    eventually(PATIENCE, "it counts again", async || counts_reads(&gateway).await).await;
}
