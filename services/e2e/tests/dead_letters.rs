//! Poison records in a running shop, and the operator's command for them: `portolan dlq`.
//!
//! The poison is a bug of the database, for one order alone: a trigger that refuses what the
//! service's handler must write. Dropping the trigger is the fix.
#![expect(clippy::unwrap_used, reason = "tests")]

use futures::{StreamExt as _, stream};
use portolan_e2e::{Options, Service, Shop, finished, program};
use portolan_testkit::{PATIENCE, eventually};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::process::Command;
use uuid::Uuid;

/// What inventory writes for the order of so many teapots is refused.
const PLACED_IS_POISON: &str = "
    CREATE FUNCTION bug() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'a bug' USING ERRCODE = 'check_violation'; END $$;
    CREATE TRIGGER bug BEFORE INSERT ON reservation_line FOR EACH ROW
        WHEN (NEW.quantity = 7) EXECUTE FUNCTION bug()";

/// What payment writes when the order of that price is confirmed is refused.
const CONFIRMED_IS_POISON: &str = "
    CREATE FUNCTION bug() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'a bug' USING ERRCODE = 'check_violation'; END $$;
    CREATE TRIGGER bug BEFORE UPDATE ON payment FOR EACH ROW
        WHEN (NEW.amount = 8750 AND NEW.state = 'CAPTURING') EXECUTE FUNCTION bug()";

async fn plant(shop: &Shop, service: Service, bug: &'static str) {
    shop.database(service).execute(AssertSqlSafe(bug)).await.unwrap();
}

async fn fix(shop: &Shop, service: Service) {
    shop.database(service).execute("DROP FUNCTION bug CASCADE").await.unwrap();
}

/// Runs `portolan dlq` as olga; its exit code and what it printed.
async fn dlq(shop: &Shop, arguments: &[&str]) -> (Option<i32>, Value) {
    let token = shop.operator_token_file("olga");
    let mut command = Command::new(program("portolan"));
    command
        .arg("dlq")
        .args(arguments)
        .args(["--json", "--gateway", &shop.url(Service::Gateway, 0), "--jaeger", "http://jaeger"])
        .arg("--token-file")
        .arg(token);
    let output = finished(&mut command).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Waits until the operator sees one dead letter, with at least so many events behind it.
async fn one_dead_letter(shop: &Shop, waiting: i64) -> Value {
    eventually(PATIENCE, "the dead letter is listed", async || {
        let (_, mut listed) = dlq(shop, &["list"]).await;
        let letters = listed.as_array_mut().unwrap();
        let there = letters.len() == 1 && letters[0]["waiting"].as_i64() >= Some(waiting);
        there.then(|| letters.remove(0))
    })
    .await
}

/// Everything that anybody holds for an order.
async fn held(shop: &Shop) -> [i64; 2] {
    [
        shop.count(Service::Inventory, "SELECT sum(reserved)::bigint FROM stock").await,
        shop.count(
            Service::Payment,
            "SELECT count(*) FROM payment WHERE state NOT IN
                 ('CAPTURED', 'VOIDED', 'DECLINED', 'CANCELLED')",
        )
        .await,
    ]
}

fn assert_explained(letter: &Value, order: Uuid, group: &str, kind: &str) {
    assert_eq!(letter["key"], order.to_string());
    assert_eq!((&letter["group"], &letter["type"]), (&group.into(), &kind.into()));
    assert_eq!(letter["reason"], "refused_by_database");
    assert!(letter["detail"].as_str().unwrap().contains("a bug"), "{letter}");
    let trace_id = letter["trace_id"].as_str().unwrap();
    assert_eq!(trace_id.len(), 32);
    assert_eq!(letter["trace_url"], format!("http://jaeger/trace/{trace_id}"));
}

#[tokio::test]
async fn poison_after_the_pivot_delays_nobody_and_its_order_completes_when_the_cause_is_fixed() {
    let shop = Shop::open().await;
    plant(&shop, Service::Payment, CONFIRMED_IS_POISON).await;
    let alice = shop.customer("alice");
    let sick = alice.place(&[("TEAPOT", 7)], "tok_ok_1").await;
    let letter = one_dead_letter(&shop, 0).await;
    assert_explained(&letter, sick, "payment", "portolan.order.confirmed.v1");
    let trace_id = alice.timeline(sick).await[0]["trace_id"].clone();
    assert_eq!(letter["trace_id"], trace_id, "the trace of the request that placed the order");

    // Everybody else's order completes while this one waits.
    for card in 0..12 {
        let order = alice.place(&[("CUP", 1)], &format!("tok_ok_{card}")).await;
        alice.becomes(order, "COMPLETED").await;
    }
    assert_eq!(alice.order(sick).await["status"], "CONFIRMED");

    // As long as the cause is there, a redrive changes nothing and says why.
    let key = sick.to_string();
    let redrive = ["redrive", "--group", "payment", "--key", &key, "--reason", "the bug is fixed"];
    let (code, refused) = dlq(&shop, &redrive).await;
    assert_eq!((code, &refused[0]["outcome"]), (Some(1), &"REFUSED".into()), "{refused}");
    assert!(refused[0]["fault"]["detail"].as_str().unwrap().contains("a bug"));
    assert_eq!(one_dead_letter(&shop, 0).await["event_id"], letter["event_id"]);

    fix(&shop, Service::Payment).await;
    let (code, applied) = dlq(&shop, &redrive).await;
    assert_eq!((code, &applied[0]["outcome"]), (Some(0), &"APPLIED".into()), "{applied}");
    alice.becomes(sick, "COMPLETED").await;
    assert_eq!(dlq(&shop, &["list"]).await.1, Value::Array(Vec::new()));

    // The trail says who did what and why.
    let event = letter["event_id"].as_str().unwrap();
    let (_, shown) = dlq(&shop, &["show", "--group", "payment", "--event", event]).await;
    let history = shown["history"].as_array().unwrap();
    assert!(history.iter().all(|did| did["operator"] == "olga" && did["trace_id"] == trace_id));
    // Newest first. What waited behind it has lines of its own.
    let about = history.iter().filter(|did| did["event_id"] == event);
    let outcomes: Vec<_> = about.map(|did| did["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["applied", "refused"]);
    assert_eq!(held(&shop).await, [0, 0]);
    shop.assert_sound().await;
}

#[tokio::test]
async fn poison_before_the_pivot_ends_its_order_with_nothing_held_when_the_cause_is_fixed() {
    let shop = Shop::with(Options { deadline_secs: 5, ..Options::default() }).await;
    plant(&shop, Service::Inventory, PLACED_IS_POISON).await;
    let alice = shop.customer("alice");
    let sick = alice.place(&[("TEAPOT", 7)], "tok_ok_1").await;
    let letter = one_dead_letter(&shop, 0).await;
    assert_explained(&letter, sick, "inventory", "portolan.order.placed.v1");
    let event = letter["event_id"].as_str().unwrap();
    let (_, shown) = dlq(&shop, &["show", "--group", "inventory", "--event", event]).await;
    assert_eq!(shown["payload"]["payment_token"], "[redacted]");

    // The deadline decides; the cancellation waits behind the dead letter.
    let cancelled = alice.becomes(sick, "CANCELLED").await;
    assert_eq!(cancelled["cancel_reason"], "TIMEOUT");
    one_dead_letter(&shop, 1).await;

    fix(&shop, Service::Inventory).await;
    let all = ["redrive", "--all", "--reason", "the bug is fixed"];
    let (code, applied) = dlq(&shop, &all).await;
    assert_eq!((code, &applied[0]["applied"]), (Some(0), &2.into()), "{applied}");
    shop.caught_up().await;
    eventually(PATIENCE, "nothing is held", async || (held(&shop).await == [0, 0]).then_some(()))
        .await;
    assert_eq!(alice.order(sick).await["status"], "CANCELLED");
    shop.assert_sound().await;
}

#[tokio::test]
async fn a_dropped_dead_letter_lets_what_waits_behind_it_go_on() {
    let shop = Shop::with(Options { deadline_secs: 5, ..Options::default() }).await;
    plant(&shop, Service::Inventory, PLACED_IS_POISON).await;
    let alice = shop.customer("alice");
    let sick = alice.place(&[("TEAPOT", 7)], "tok_ok_1").await;
    alice.becomes(sick, "CANCELLED").await;
    one_dead_letter(&shop, 1).await;
    let key = sick.to_string();
    let (code, done) =
        dlq(&shop, &["drop", "--group", "inventory", "--key", &key, "--reason", "cancelled"]).await;
    assert_eq!((code, &done[0]["applied"]), (Some(0), &1.into()), "{done}");
    assert_eq!(held(&shop).await, [0, 0]);
    assert_eq!(dlq(&shop, &["list"]).await.1, Value::Array(Vec::new()));
    shop.assert_sound().await;
}

/// Places so many orders at once, and one of poison among them or not. How long the slowest of the
/// others took from being placed to its last change, in milliseconds.
async fn slowest_of(shop: &Shop, orders: usize, poison: bool) -> i128 {
    let alice = shop.customer("alice");
    let placed = stream::iter(0..=orders).map(|n| {
        let sick = poison && n == orders / 2;
        let (alice, line) = (alice.clone(), if sick { ("TEAPOT", 7) } else { ("CUP", 1) });
        async move { (sick, alice.place(&[line], &format!("tok_ok_{n}")).await) }
    });
    let placed: Vec<(bool, Uuid)> = placed.buffer_unordered(orders + 1).collect().await;
    let mut slowest = 0;
    for (_, order) in placed.iter().filter(|(sick, _)| !sick) {
        let done = alice.becomes(*order, "COMPLETED").await;
        let at =
            |name: &str| OffsetDateTime::parse(done[name].as_str().unwrap(), &Rfc3339).unwrap();
        slowest = slowest.max((at("updated_at") - at("created_at")).whole_milliseconds());
    }
    slowest
}

/// Prints figures for `docs/RELIABILITY.md`; what holds is tested above.
#[tokio::test]
#[ignore = "measures: run it alone, with --ignored --nocapture"]
async fn what_poison_costs_everybody_else() {
    let shop = Shop::open().await;
    plant(&shop, Service::Inventory, PLACED_IS_POISON).await;
    slowest_of(&shop, 16, false).await;
    for orders in [1, 16] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(slowest_of(&shop, orders, false).await);
            with.push(slowest_of(&shop, orders, true).await);
        }
        for (name, mut slowest) in [("without", without), ("with", with)] {
            slowest.sort_unstable();
            let (half, all) = (slowest[ROUNDS / 2], slowest[ROUNDS - 1]);
            println!("{orders} at once {name} poison: slowest p50 {half}, max {all} ms");
        }
    }
    let dead = shop.count(Service::Inventory, "SELECT count(reason) FROM parked").await;
    assert_eq!(dead, 2 * i64::try_from(ROUNDS).unwrap());
}

/// How often each case is measured, in turns.
const ROUNDS: usize = 30;
