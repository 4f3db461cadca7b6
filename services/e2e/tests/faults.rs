//! Killed and frozen processes, and several of each at once.

use std::collections::BTreeSet;

use futures::future::{join, join_all};
use portolan_e2e::{Options, Service, Shop, new_key};
use portolan_testkit::{PATIENCE, eventually};
use uuid::Uuid;

/// What the customers of a load pay with: mostly good cards, and some of every other kind.
const CARDS: [&str; 10] = [
    "tok_ok",
    "tok_ok",
    "tok_late",
    "tok_ok",
    "tok_declined",
    "tok_ok",
    "tok_error",
    "tok_ok",
    "tok_capture_fails",
    "tok_flaky",
];

fn card(number: usize) -> String {
    format!("{}_{number}", CARDS[number % CARDS.len()])
}

/// Returns when so many orders are stored, whoever knows of them.
async fn stored(shop: &Shop, orders: i64) {
    let count = "SELECT count(*) FROM orders";
    eventually(PATIENCE, "orders are stored", async || {
        let found: Result<i64, _> =
            sqlx::query_scalar(count).fetch_one(shop.database(Service::Order)).await;
        found.ok().filter(|found| *found >= orders)
    })
    .await;
}

/// Waits until every order is final, and says how many were completed.
async fn finished(shop: &Shop, orders: &[(usize, Uuid)]) -> usize {
    let ends = orders.iter().map(async |(number, order)| {
        let customer = shop.customer(&format!("customer-{}", number % 12));
        customer.final_order(*order).await["status"] == "COMPLETED"
    });
    join_all(ends).await.into_iter().filter(|completed| *completed).count()
}

#[tokio::test]
async fn any_single_process_can_be_killed_in_the_middle_and_nothing_is_lost_or_done_twice() {
    const ROUND: usize = 10;
    let shop =
        Shop::with(Options { payment_timeout_ms: 500, late_ms: 800, ..Options::default() }).await;
    let mut orders = Vec::new();
    for (round, service) in Service::ALL.into_iter().enumerate() {
        let numbers = round * ROUND..(round + 1) * ROUND;
        let placing = join_all(numbers.map(async |number| {
            let customer = shop.customer(&format!("customer-{}", number % 12));
            (number, customer.place(&[("CUP", 1), ("TEAPOT", 2)], &card(number)).await)
        }));
        let killing = async {
            stored(&shop, i64::try_from(round * ROUND + 3).unwrap()).await;
            shop.kill(service, 0);
            shop.restart(service, 0).await;
        };
        orders.extend(join(placing, killing).await.0);
    }
    let completed = finished(&shop, &orders).await;
    shop.assert_sound().await;
    assert_eq!(orders.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), 60);
    // Two cards of ten are refused, whatever dies.
    assert_eq!(completed, 48);
}

#[tokio::test]
async fn two_of_every_service_share_the_work_and_agree() {
    let shop = Shop::with(Options {
        replicas: 2,
        payment_timeout_ms: 500,
        late_ms: 800,
        ..Options::default()
    })
    .await;
    let placing = (0..60).map(async |number: usize| {
        let customer = shop.customer(&format!("customer-{}", number % 12));
        let (key, card, lines) = (new_key(), card(number), [("CUP", 1), ("TEAPOT", 2)]);
        let other = customer.at(1);
        // The same request at both gateways at once is one order.
        let (here, there) = join(
            customer.place_with_key(&key, &lines, &card),
            other.place_with_key(&key, &lines, &card),
        )
        .await;
        assert_eq!(here, there);
        if number.is_multiple_of(4) {
            // Two cancellations at once, racing with everything else: both give the same answer.
            let answers = join(customer.cancel(here), other.cancel(here)).await;
            let codes = [answers.0.unwrap().status, answers.1.unwrap().status];
            assert!(matches!(codes, [200, 200] | [409, 409]), "{codes:?}");
        }
        (number, here)
    });
    // What holds at any time holds now, too.
    let auditing = async {
        for orders in [5, 25, 45] {
            stored(&shop, orders).await;
            let found = shop.audit(&["--online"]).await;
            assert_eq!((found.code, found.verdict.as_str()), (Some(0), "clean"), "{found:#?}");
        }
    };
    let (orders, ()) = join(join_all(placing), auditing).await;
    finished(&shop, &orders).await;
    shop.assert_sound().await;
    assert_eq!(shop.count(Service::Order, "SELECT count(*) FROM orders").await, 60);
}

#[tokio::test]
async fn a_process_that_stood_still_for_longer_than_its_session_does_no_harm_when_it_goes_on() {
    const FROZEN: [Service; 4] =
        [Service::Order, Service::Inventory, Service::Payment, Service::Notification];
    let shop = Shop::with(Options { replicas: 2, ..Options::default() }).await;
    let place = async |from: usize| {
        join_all((from..from + 12).map(async |number| {
            let customer = shop.customer(&format!("customer-{}", number % 12));
            (number, customer.at(1).place(&[("CUP", 1)], &format!("tok_ok_{number}")).await)
        }))
        .await
    };
    let freezing = async {
        stored(&shop, 4).await;
        for service in FROZEN {
            shop.freeze(service, 0);
        }
    };
    let (mut orders, ()) = join(place(0), freezing).await;
    // The others take over: these orders are finished while the first of each stands still.
    orders.extend(place(12).await);
    let at_other = orders.iter().map(async |(number, order)| {
        let customer = shop.customer(&format!("customer-{}", number % 12)).at(1);
        customer.becomes(*order, "COMPLETED").await
    });
    join_all(at_other).await;
    for service in FROZEN {
        shop.thaw(service, 0);
    }
    for service in FROZEN {
        shop.ready(service, 0).await;
    }
    orders.extend(place(24).await);
    assert_eq!(finished(&shop, &orders).await, 36);
    shop.assert_sound().await;
}
