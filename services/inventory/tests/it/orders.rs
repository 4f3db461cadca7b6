use portolan_proto::{
    Event as _,
    events::v1::{InventoryRejected, InventoryReserved, OrderPlaced},
};
use prost::Message as _;

use crate::support::{GROUP, Shop, cancelled, confirmed, new_id, new_order, placed};

fn entry(kind: &str, sku: &str, deltas: (i64, i64, i64)) -> (String, String, i64, i64, i64) {
    (kind.to_owned(), sku.to_owned(), deltas.0, deltas.1, deltas.2)
}

#[tokio::test]
async fn a_reserved_order_tells_payment_what_it_needs() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 10), ("b", 2)]).await;

    let order = new_order();
    shop.place(order, &[("a", 3), ("b", 2)]).await;
    shop.until_state(order, "RESERVED").await;

    assert_eq!(shop.stock("a").await, (7, 3));
    assert_eq!(shop.stock("b").await, (0, 2));
    let told = shop.published(order).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].header("ce_type"), Some(InventoryReserved::TYPE));
    let traceparent = told[0].header("traceparent").unwrap();
    assert!(traceparent.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{traceparent}");
    let event = InventoryReserved::decode(told[0].payload.as_slice()).unwrap();
    let OrderPlaced { user_id, amount, payment_token, deadline, .. } = placed(order, &[]);
    let expected =
        InventoryReserved { order_id: order.to_string(), user_id, amount, payment_token, deadline };
    assert_eq!(event, expected);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn a_short_order_is_rejected_whole_and_names_the_first_missing_sku() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("B", 5), ("a", 5), ("c", 0)]).await;

    let order = new_order();
    // In byte order: B, a, c, unknown. Of `a` and of everything after it there is not enough.
    shop.place(order, &[("unknown", 1), ("c", 1), ("a", 6), ("B", 5)]).await;
    shop.until_state(order, "REJECTED").await;

    assert_eq!(shop.stock("B").await, (5, 0));
    assert_eq!(shop.stock("a").await, (5, 0));
    assert_eq!(shop.ledger(order).await, []);
    let told = shop.published(order).await;
    assert_eq!(told.len(), 1);
    let event = InventoryRejected::decode(told[0].payload.as_slice()).unwrap();
    assert_eq!((event.order_id, event.sku), (order.to_string(), "a".to_owned()));
    // The cancellation that follows has nothing to undo.
    let cancelled = shop.cancel(order).await;
    shop.until_consumed(cancelled).await;
    assert_eq!(shop.state(order).await.as_deref(), Some("REJECTED"));
    assert_eq!(shop.told(order).await, ["inventory.rejected"]);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn duplicates_and_older_records_change_nothing() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 10)]).await;

    let order = new_order();
    let (first, second) = (new_id(), new_id());
    let placing = placed(order, &[("a", 4)]);
    shop.publish(first, order, 1, &placing).await;
    shop.publish(first, order, 1, &placing).await;
    // The same event under another id, as after a redrive by hand.
    shop.publish(new_id(), order, 1, &placing).await;
    shop.publish(second, order, 2, &confirmed(order)).await;
    shop.publish(first, order, 1, &placing).await;
    shop.publish(new_id(), order, 1, &placing).await;
    let last = new_id();
    shop.publish(last, order, 2, &confirmed(order)).await;
    shop.until_consumed(last).await;

    assert_eq!(shop.state(order).await.as_deref(), Some("COMMITTED"));
    assert_eq!(shop.stock("a").await, (6, 0));
    assert_eq!(
        shop.ledger(order).await,
        [entry("reserve", "a", (0, -4, 4)), entry("commit", "a", (-4, 0, -4))]
    );
    assert_eq!(shop.told(order).await, ["inventory.reserved", "inventory.committed"]);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn an_order_cancelled_before_it_was_placed_never_takes_stock() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 10)]).await;

    let order = new_order();
    shop.cancel(order).await;
    shop.until_state(order, "RELEASED").await;
    let late = shop.place(order, &[("a", 4)]).await;
    shop.until_consumed(late).await;

    assert_eq!(shop.state(order).await.as_deref(), Some("RELEASED"));
    assert_eq!(shop.stock("a").await, (10, 0));
    assert_eq!(shop.ledger(order).await, []);
    assert_eq!(shop.told(order).await, [""; 0]);
    inventory.stop().await;
}

#[tokio::test]
async fn a_cancelled_order_gives_its_goods_back() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 4)]).await;

    let order = new_order();
    shop.place(order, &[("a", 4)]).await;
    shop.until_state(order, "RESERVED").await;
    shop.cancel(order).await;
    shop.until_state(order, "RELEASED").await;

    assert_eq!(shop.stock("a").await, (4, 0));
    assert_eq!(
        shop.ledger(order).await,
        [entry("reserve", "a", (0, -4, 4)), entry("release", "a", (0, 4, -4))]
    );
    assert_eq!(shop.told(order).await, ["inventory.reserved", "inventory.released"]);
    // What was given back can be sold.
    let next = new_order();
    shop.place(next, &[("a", 4)]).await;
    shop.until_state(next, "RESERVED").await;
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn goods_of_an_order_whose_capture_failed_come_back() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 10)]).await;

    let order = new_order();
    shop.place(order, &[("a", 4)]).await;
    shop.confirm(order).await;
    shop.until_state(order, "COMMITTED").await;
    assert_eq!(shop.stock("a").await, (6, 0));
    shop.cancel(order).await;
    shop.until_state(order, "RELEASED").await;

    assert_eq!(shop.stock("a").await, (10, 0));
    assert_eq!(
        shop.ledger(order).await,
        [
            entry("reserve", "a", (0, -4, 4)),
            entry("commit", "a", (-4, 0, -4)),
            entry("release", "a", (4, 4, 0)),
        ]
    );
    let told = ["inventory.reserved", "inventory.committed", "inventory.released"];
    assert_eq!(shop.told(order).await, told);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn an_impossible_event_is_set_aside_and_the_others_go_on() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 10)]).await;

    let (unknown, double, good) = (new_order(), new_order(), new_order());
    shop.confirm(unknown).await;
    // Behind its dead letter, the order's later events wait.
    let behind = shop.place(unknown, &[("a", 1)]).await;
    shop.place(double, &[("a", 1), ("a", 2)]).await;
    shop.place(good, &[("a", 3)]).await;
    shop.until_state(good, "RESERVED").await;
    shop.until_consumed(behind).await;

    let dead = "SELECT count(*) FROM parked
                WHERE grp = 2 AND key = convert_to($1::text, 'UTF8') AND reason IS NOT NULL";
    for order in [unknown, double] {
        portolan_testkit::eventually(crate::support::PATIENCE, "a dead letter", async || {
            (shop.count(dead, order.0).await == 1).then_some(())
        })
        .await;
        assert_eq!(shop.state(order).await, None);
    }
    let reasons: Vec<String> = sqlx::query_scalar(
        "SELECT reason FROM parked WHERE grp = $1 AND reason IS NOT NULL ORDER BY reason",
    )
    .bind(GROUP)
    .fetch_all(shop.pool())
    .await
    .unwrap();
    assert_eq!(reasons, ["impossible_transition", "invalid_event"]);
    shop.until_relayed().await;
    let letters = shop.kafka.consume_named("portolan.dlq.inventory.v1").await;
    assert_eq!(letters.len(), 2);
    assert_eq!(shop.stock("a").await, (7, 3));
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn an_order_of_541_lines_is_reserved_and_committed() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    let skus: Vec<String> = (0..541).map(|n| format!("{n:05}")).collect();
    let stock: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 4)).collect();
    inventory.import(&stock).await;

    let (large, other) = (new_order(), new_order());
    let lines: Vec<(&str, u32)> = skus.iter().map(|sku| (sku.as_str(), 3)).collect();
    shop.place(large, &lines).await;
    shop.place(other, &[("00540", 1), ("00000", 1)]).await;
    shop.confirm(large).await;
    shop.until_state(large, "COMMITTED").await;
    shop.until_state(other, "RESERVED").await;

    assert_eq!(shop.stock("00000").await, (0, 1));
    assert_eq!(shop.stock("00270").await, (1, 0));
    assert_eq!(shop.ledger(large).await.len(), 2 * 541);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn the_ledger_of_a_huge_order_is_written_in_pieces() {
    const LINES: usize = 4_500;
    let shop = Shop::open().await;
    let skus: Vec<String> = (0..LINES).map(|n| format!("{n:05}")).collect();
    for statement in [
        "INSERT INTO product SELECT lpad(n::text, 5, '0'), 'p', 85, 'GBP'
         FROM generate_series(0, 4499) AS n",
        "INSERT INTO stock SELECT sku, 4, 4, 0 FROM product",
        "INSERT INTO stock_ledger
             (cause, sku, kind, delta_on_hand, delta_available, delta_reserved)
         SELECT gen_random_uuid(), sku, 'initial', 4, 4, 0 FROM product",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
             IF (SELECT count(*) FROM entry) > 4096 THEN RAISE 'too many at once'; END IF;
             RETURN NULL;
         END $$",
        "CREATE TRIGGER refuse AFTER INSERT ON stock_ledger
         REFERENCING NEW TABLE AS entry FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
    ] {
        sqlx::query(statement).execute(shop.pool()).await.unwrap();
    }
    let inventory = shop.replica().await;
    let order = new_order();
    let lines: Vec<(&str, u32)> = skus.iter().map(|sku| (sku.as_str(), 3)).collect();
    let event = shop.place(order, &lines).await;
    shop.until_consumed(event).await;

    assert_eq!(shop.state(order).await.as_deref(), Some("RESERVED"));
    assert_eq!(shop.ledger(order).await.len(), LINES);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn the_whole_topic_again_with_an_empty_inbox_changes_nothing() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 100)]).await;

    let [completed, released, restocked, rejected] = [(); 4].map(|()| new_order());
    let history = async || {
        for (order, quantity) in [(completed, 1), (released, 2), (restocked, 4), (rejected, 500)] {
            shop.publish(new_id(), order, 1, &placed(order, &[("a", quantity)])).await;
        }
        for order in [completed, restocked] {
            shop.publish(new_id(), order, 2, &confirmed(order)).await;
        }
        for order in [released, restocked, rejected] {
            let id = new_id();
            shop.publish(id, order, 3, &cancelled(order)).await;
            shop.until_consumed(id).await;
        }
        shop.until_state(completed, "COMMITTED").await;
    };
    history().await;
    shop.until_relayed().await;
    let before = shop.kafka.consume_all(portolan_proto::Topic::Inventory).await;
    let stock = shop.stock("a").await;

    sqlx::query("DELETE FROM inbox").execute(shop.pool()).await.unwrap();
    history().await;
    shop.until_relayed().await;

    assert_eq!(shop.stock("a").await, stock);
    assert_eq!(stock, (99, 0));
    assert_eq!(shop.kafka.consume_all(portolan_proto::Topic::Inventory).await, before);
    let parked: i64 =
        sqlx::query_scalar("SELECT count(*) FROM parked").fetch_one(shop.pool()).await.unwrap();
    assert_eq!(parked, 0);
    shop.audit().await;
    inventory.stop().await;
}
