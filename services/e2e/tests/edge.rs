//! Several gateways as one edge: what is done to them every now and then fails no customer's
//! request, and what they admit together is what one may.
#![expect(clippy::expect_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::future::{join, join_all};
use portolan_auth::create_key_file;
use portolan_e2e::{Customer, Options, Service, Shop, new_key};
use portolan_testkit::{PATIENCE, TestRedis, eventually};
use serde_json::Value;

const CUSTOMERS: usize = 6;

/// Sends customers to the gateways in turns, as a load balancer does, until the day is over.
#[derive(Debug)]
struct Day<'a> {
    shop: &'a Shop,
    gateways: Mutex<Vec<usize>>,
    turn: AtomicUsize,
    /// Tokens of an earlier era are given up at the next order.
    era: AtomicUsize,
    /// The orders completed in the present era by each customer.
    done: Mutex<BTreeMap<usize, usize>>,
    over: AtomicBool,
}

impl<'a> Day<'a> {
    fn new(shop: &'a Shop) -> Self {
        Self {
            shop,
            gateways: Mutex::new((0..shop.replicas()).collect()),
            turn: AtomicUsize::new(0),
            era: AtomicUsize::new(0),
            done: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    fn gateway(&self) -> usize {
        let gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        *gateways.get(turn % gateways.len()).expect("a gateway that is ready")
    }

    /// Changes where customers are sent.
    fn send_to(&self, gateways: impl IntoIterator<Item = usize>) {
        *self.gateways.lock().unwrap_or_else(PoisonError::into_inner) =
            gateways.into_iter().collect();
    }

    /// Orders one thing after the other, and fails when any request does.
    async fn customer(&self, number: usize) {
        let name = format!("customer-{number}");
        let (mut era, mut customer) = (0, self.shop.customer(&name));
        while !self.over.load(Ordering::Relaxed) {
            let now = self.era.load(Ordering::Acquire);
            if now != era {
                (era, customer) = (now, self.shop.customer(&name));
            }
            self.order(&customer).await;
            if self.era.load(Ordering::Acquire) == era {
                let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
                *done.entry(number).or_default() += 1;
            }
        }
    }

    async fn order(&self, customer: &Customer<'_>) {
        let key = new_key();
        let placing = customer.at(self.gateway());
        let answer = placing.try_place(&key, &[("CUP", 1)], "tok_ok_1").await;
        let id = answer.expect("an answer to an order").expect(202).id();
        let path = format!("/v1/orders/{id}");
        eventually(PATIENCE, "an order is completed", async || {
            let reading = customer.at(self.gateway());
            let answer = reading.send(reading.request(reqwest::Method::GET, &path)).await;
            let order = answer.expect("an answer to a question").expect(200).body;
            (order["status"] == "COMPLETED").then_some(())
        })
        .await;
    }

    /// Waits until everybody has completed two orders from now on: one may have begun before.
    async fn everybody_orders(&self) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clear();
        eventually(PATIENCE, "everybody has ordered twice", async || {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            (done.len() == CUSTOMERS && done.values().all(|&orders| orders >= 2)).then_some(())
        })
        .await;
    }

    /// Has customers order while something is done.
    async fn during(&self, work: impl Future<Output = ()>) {
        let work = async {
            self.everybody_orders().await;
            work.await;
            self.everybody_orders().await;
            self.over.store(true, Ordering::Relaxed);
        };
        let _ = join(join_all((0..CUSTOMERS).map(|number| self.customer(number))), work).await;
    }
}

/// Two gateways that go on serving for a while when they are told to stop.
async fn shop() -> Shop {
    Shop::with(Options { replicas: 2, drain_ms: 5_000, ..Options::default() }).await
}

/// The names of the keys that every gateway publishes, once they agree.
async fn published(shop: &Shop, count: usize) -> Vec<Value> {
    let keys = async |gateway| {
        let customer = shop.customer("alice").at(gateway);
        let document = customer.get("/.well-known/jwks.json").await.expect(200).body;
        let keys = document["keys"].as_array().expect("a list of keys").clone();
        keys.into_iter().map(|key| key["kid"].clone()).collect::<Vec<_>>()
    };
    eventually(PATIENCE, "all gateways publish the same keys", async || {
        let (first, second) = (keys(0).await, keys(1).await);
        (first == second && first.len() == count).then_some(first)
    })
    .await
}

/// The file appears whole, as an agent replaces it.
fn replace_keys(shop: &Shop, content: &str) {
    let file = shop.key_file();
    let draft = file.with_extension("draft");
    fs::write(&draft, content).expect("a draft");
    fs::rename(draft, file).expect("the key file is replaced");
}

#[tokio::test]
async fn the_signing_key_is_replaced_and_no_request_fails() {
    let shop = shop().await;
    let day = Day::new(&shop);
    let rotate = async {
        let file = shop.key_file();
        let other = file.with_extension("next");
        create_key_file(&other).expect("a new key");
        let old = fs::read_to_string(&file).expect("the key file");
        let new = fs::read_to_string(&other).expect("the new key");
        let before = published(&shop, 1).await;
        // Known everywhere before it signs, and the old one known until nobody uses it.
        replace_keys(&shop, &format!("{old}{new}"));
        let _ = published(&shop, 2).await;
        replace_keys(&shop, &format!("{new}{old}"));
        day.everybody_orders().await;
        day.era.fetch_add(1, Ordering::Release);
        day.everybody_orders().await;
        replace_keys(&shop, &new);
        let after = published(&shop, 1).await;
        assert_ne!(before, after);
    };
    day.during(rotate).await;
    let late = shop.log_in("alice").await.get("/v1/orders").await;
    assert_eq!(late.status, 200, "who logs in now gets a token of the new key");
    shop.assert_sound().await;
}

#[tokio::test]
async fn the_gateways_are_restarted_one_after_the_other_and_no_request_fails() {
    let shop = shop().await;
    let day = Day::new(&shop);
    let restart = async {
        for gateway in 0..shop.replicas() {
            shop.terminate(Service::Gateway, gateway);
            // Until then it is sent requests, and serves them.
            let _ = shop.ready_is(Service::Gateway, gateway, 503).await;
            day.send_to([1 - gateway]);
            let status = shop.ended(Service::Gateway, gateway).await;
            assert!(status.success(), "{status}");
            shop.restart(Service::Gateway, gateway).await;
            day.send_to(0..shop.replicas());
            day.everybody_orders().await;
        }
    };
    day.during(restart).await;
    shop.assert_sound().await;
}

#[tokio::test]
async fn two_gateway_processes_admit_no_more_together_than_the_quota() {
    const QUOTA: usize = 20;
    let server = TestRedis::new();
    // Nothing comes back of it meanwhile, and its server is waited for however busy the machine is.
    let quota = format!(
        "server = '{}'\ntimeout_ms = 20000\nwrite = {{ requests = {QUOTA}, per_secs = 86400 }}",
        server.address()
    );
    let shop = Shop::with(Options { replicas: 2, quota: Some(quota), ..Options::default() }).await;
    for gateway in 0..shop.replicas() {
        eventually(PATIENCE, "the quota's server counts", async || {
            let answer = shop.customer("alice").at(gateway).get("/v1/me/stats").await;
            answer.header("ratelimit-policy").contains("read-quota").then_some(())
        })
        .await;
    }
    let place = async |number: usize| {
        let customer = shop.customer("alice").at(number % 2);
        let answer = customer.try_place(&new_key(), &[("CUP", 1)], "tok_ok_1").await;
        answer.expect("an answer to an order")
    };
    let answers = join_all((0..3 * QUOTA).map(place)).await;
    let (refused, admitted): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 429);
    assert_eq!(admitted.len(), QUOTA);
    for answer in refused {
        let answer = answer.expect_problem(429, "rate_limited");
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
        assert!(answer.header("ratelimit").contains("write-quota"), "{:?}", answer.headers);
    }
    shop.assert_sound().await;
}
