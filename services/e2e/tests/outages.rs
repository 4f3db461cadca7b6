//! A broker and databases that go away, and processes that cannot start.
#![expect(clippy::panic, reason = "tests")]

use std::time::Duration;

use futures::future::join_all;
use portolan_e2e::{Broker, Options, Program, Service, Shop, new_key};
use portolan_testkit::{PATIENCE, eventually, free_port};

const WITH_DATABASE: [Service; 5] =
    [Service::Psp, Service::Inventory, Service::Order, Service::Payment, Service::Notification];
const WITH_KAFKA: [Service; 4] =
    [Service::Inventory, Service::Order, Service::Payment, Service::Notification];

#[tokio::test]
async fn without_a_broker_orders_are_accepted_and_read_and_afterwards_completed() {
    let mut broker = Broker::start().await;
    let options = Options { broker: Some(broker.address().to_owned()), ..Options::default() };
    let shop = Shop::with(options).await;
    let alice = shop.customer("alice");
    let before = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    alice.becomes(before, "COMPLETED").await;

    broker.kill();
    let during = alice.place(&[("CUP", 1)], "tok_ok_2").await;
    for service in [Service::Order, Service::Inventory] {
        eventually(PATIENCE, "it says that it is degraded", async || {
            let (status, body) = shop.readiness(service, 0).await?;
            assert_eq!(status, 200, "it serves its calls without a broker: {body}");
            (body["status"] == "degraded").then_some(())
        })
        .await;
    }
    for service in [Service::Payment, Service::Notification] {
        shop.ready_is(service, 0, 503).await;
    }
    let later = alice.place(&[("TEAPOT", 1)], "tok_ok_3").await;
    assert_eq!(alice.order(during).await["status"], "PENDING");
    assert_eq!(
        alice.get("/v1/orders").await.expect(200).body["orders"][0]["id"],
        later.to_string()
    );
    let _ = alice.get("/v1/products/CUP").await.expect(200);

    broker.restart().await;
    for order in [during, later] {
        alice.becomes(order, "COMPLETED").await;
    }
    for service in Service::ALL {
        shop.ready(service, 0).await;
    }
    shop.assert_sound().await;
}

#[tokio::test]
async fn a_broker_that_stood_still_for_longer_than_its_session_is_found_again() {
    let broker = Broker::with_controller().await;
    let options = Options { broker: Some(broker.address().to_owned()), ..Options::default() };
    let shop = Shop::with(options).await;
    let alice = shop.customer("alice");
    let before = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    alice.becomes(before, "COMPLETED").await;
    broker.freeze();
    // Its session ends after three seconds: then its partitions have no leader until it is back.
    tokio::time::sleep(Duration::from_secs(6)).await;
    broker.thaw();
    let after = alice.place(&[("CUP", 1)], "tok_ok_2").await;
    alice.becomes(after, "COMPLETED").await;
    shop.assert_sound().await;
}

#[tokio::test]
async fn without_a_broker_for_too_long_no_more_is_promised_than_can_be_kept() {
    let mut broker = Broker::start().await;
    let options = Options {
        broker: Some(broker.address().to_owned()),
        deadline_secs: 6,
        ..Options::default()
    };
    let shop = Shop::with(options).await;
    let alice = shop.customer("alice");
    broker.kill();
    let promised = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    // Half the deadline later nobody knows when this one will be heard of.
    let refused = eventually(PATIENCE, "new orders are refused", async || {
        let answer = alice.try_place(&new_key(), &[("CUP", 1)], "tok_ok_2").await?;
        (answer.status != 202).then_some(answer)
    })
    .await
    .expect(503);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{:?}", refused.headers);
    let _ = alice.order(promised).await;

    broker.restart().await;
    alice.final_order(promised).await;
    let order = alice.place(&[("CUP", 1)], "tok_ok_3").await;
    alice.becomes(order, "COMPLETED").await;
    shop.assert_sound().await;
}

#[tokio::test]
async fn a_service_without_its_database_is_unready_and_recovers_by_itself() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let mut orders = Vec::new();
    for (service, number) in WITH_DATABASE.into_iter().zip(0..) {
        let card = format!("tok_ok_{number}");
        orders.push(alice.place(&[("CUP", 1)], &card).await);
        shop.close_database(service).await;
        let told = shop.ready_is(service, 0, 503).await;
        assert_eq!(told["checks"]["database"]["status"], "failed", "{told}");
        if service == Service::Order {
            let answer = alice.try_place("while-closed", &[("CUP", 1)], "tok_ok_9").await.unwrap();
            assert_eq!(answer.status, 503, "{}", answer.body);
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        shop.open_database(service).await;
        shop.ready(service, 0).await;
    }
    for order in orders {
        alice.becomes(order, "COMPLETED").await;
    }
    shop.assert_sound().await;
}

/// The one line in which a process says why it does not run.
async fn refusal(service: Service, program: Program, code: i32) -> String {
    let run = program.run(PATIENCE).await;
    let name = format!("portolan-{}: ", service.name());
    let lines: Vec<&str> = run.output.lines().filter_map(|line| line.strip_prefix(&name)).collect();
    assert_eq!(run.code, Some(code), "{name}{}", run.output);
    assert!(!run.output.contains("panicked"), "{}", run.output);
    let [line] = lines[..] else { panic!("one line of {name}in {}", run.output) };
    line.to_owned()
}

/// The configuration with another value, in quotes, wherever this key is.
fn set(text: &str, key: &str, value: &str) -> String {
    let key = format!("{key} = ");
    let line = |line: &str| {
        if line.starts_with(&key) { format!("{key}'{value}'\n") } else { format!("{line}\n") }
    };
    text.lines().map(line).collect()
}

/// The same with ports of its own, so that nothing is in its way but what the test puts there.
fn moved(text: &str) -> String {
    let text = set(text, "listen", &format!("127.0.0.1:{}", free_port()));
    set(&text, "admin_listen", &format!("127.0.0.1:{}", free_port()))
}

#[tokio::test]
async fn a_process_that_cannot_start_says_why_in_one_line() {
    let shop = Shop::open().await;
    for service in Service::ALL {
        let unknown = shop.variant(service, "unknown", |text| format!("colour = 'red'\n{text}"));
        let line = refusal(service, unknown, 64).await;
        assert!(line.contains("colour"), "{line}");
        let wrong = shop.variant(service, "wrong", |text| set(text, "grace_secs", "soon"));
        let line = refusal(service, wrong, 64).await;
        assert!(line.contains("server.grace_secs"), "{line}");
    }

    let taken = Service::ALL
        .map(|service| refusal(service, shop.variant(service, "taken", str::to_owned), 1));
    for line in join_all(taken).await {
        assert!(line.contains("127.0.0.1:") && line.contains("in use"), "{line}");
    }

    let nowhere = format!("127.0.0.1:{}", free_port());
    let at_database = |service: Service, name: &str, url: &str| {
        let change = |text: &str| moved(text).replace(shop.database_url(service), url);
        refusal(service, shop.variant(service, name, change), 1)
    };
    let away = format!("postgres://someone:secret@{nowhere}/somewhere");
    let unreachable = WITH_DATABASE.map(|service| at_database(service, "no-server", &away));
    for line in join_all(unreachable).await {
        assert!(line.contains(&nowhere) && !line.contains("secret"), "{line}");
    }
    let missing = WITH_DATABASE.map(|service| {
        let url = shop.database_url(service).replace("portolan_test_", "portolan_missing_");
        at_database(service, "no-database", &url)
    });
    for line in join_all(missing).await {
        assert!(line.contains("portolan_missing_"), "{line}");
    }
    let empty = portolan_testkit::TestDb::new(&[]).await;
    let unmigrated = WITH_DATABASE.map(|service| at_database(service, "empty", empty.url()));
    for line in join_all(unmigrated).await {
        assert!(line.contains("migrate"), "{line}");
    }

    let no_broker = WITH_KAFKA.map(|service| {
        let change = |text: &str| set(&moved(text), "brokers", &nowhere);
        refusal(service, shop.variant(service, "no-broker", change), 1)
    });
    for line in join_all(no_broker).await {
        assert!(line.contains(&nowhere), "{line}");
    }
    shop.assert_sound().await;
}
