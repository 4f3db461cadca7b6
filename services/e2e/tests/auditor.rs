//! Whether the auditor notices: every kind of violation is planted in the databases of a shop that
//! was sound, and must be named.
#![expect(clippy::panic, reason = "tests")]

use portolan_e2e::{Service, Shop, audit};
use portolan_proto::Topic;
use sqlx::PgPool;

use Service::{Inventory, Notification, Order, Payment, Psp};

/// Constraints that would refuse to take what is planted.
const UNGUARD: &str = "
    DO $$
    DECLARE c record;
    BEGIN
        FOR c IN
            SELECT conrelid::regclass AS owner, conname
            FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'u', 'p')
              AND conparentid = 0 AND coninhcount = 0
            ORDER BY contype = 'p'
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE', c.owner, c.conname);
        END LOOP;
        FOR c IN
            SELECT indexrelid::regclass AS index
            FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
            WHERE indisunique AND t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
        LOOP
            EXECUTE format('DROP INDEX IF EXISTS %s', c.index);
        END LOOP;
    END $$";

/// A violation: who must name it, where it is, how it is planted and how it is taken back.
type Plant = (&'static [&'static str], Service, &'static str, &'static str);

const PLANTS: &[Plant] = &[
    (
        &["I1"],
        Inventory,
        "UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'CUP'",
        "UPDATE stock SET on_hand = on_hand - 1 WHERE sku = 'CUP'",
    ),
    (
        &["I2"],
        Inventory,
        "UPDATE stock SET available = available - 1, on_hand = on_hand - 1 WHERE sku = 'CUP'",
        "UPDATE stock SET available = available + 1, on_hand = on_hand + 1 WHERE sku = 'CUP'",
    ),
    (
        &["I2", "Q5"],
        Inventory,
        "UPDATE stock_ledger SET delta_available = delta_available + 1 WHERE kind = 'initial' AND sku = 'CUP'",
        "UPDATE stock_ledger SET delta_available = delta_available - 1 WHERE kind = 'initial' AND sku = 'CUP'",
    ),
    (
        &["I3", "Q3", "Q5"],
        Inventory,
        "UPDATE reservation SET state = 'RESERVED' WHERE state = 'COMMITTED'",
        "UPDATE reservation SET state = 'COMMITTED' WHERE state = 'RESERVED'",
    ),
    (
        &["Q3", "Q4"],
        Inventory,
        "UPDATE reservation SET state = 'COMMITTED', missing_sku = state WHERE state = 'RELEASED'",
        "UPDATE reservation SET state = missing_sku, missing_sku = NULL WHERE missing_sku = 'RELEASED'",
    ),
    (
        &["I4"],
        Payment,
        "INSERT INTO payment SELECT * FROM payment WHERE state = 'CAPTURED'",
        "DELETE FROM payment a USING payment b WHERE a.order_id = b.order_id AND a.ctid > b.ctid",
    ),
    (
        &["I4", "Q3"],
        Notification,
        "INSERT INTO notification SELECT n.* FROM (SELECT (jsonb_populate_record(old, '{\"kind\": \"cancelled\", \"message_id\": \"second\"}')).* FROM notification old WHERE kind = 'confirmed') AS n",
        "DELETE FROM notification WHERE message_id = 'second'",
    ),
    (
        &["I5"],
        Order,
        "UPDATE order_event SET version = version + 10 WHERE state = 'COMPLETED'",
        "UPDATE order_event SET version = version - 10 WHERE state = 'COMPLETED'",
    ),
    (
        &["I5"],
        Order,
        "UPDATE order_event SET state = 'PENDING', cause = 'planted' WHERE state = 'CONFIRMED'",
        "UPDATE order_event SET state = 'CONFIRMED', cause = 'repaired' WHERE cause = 'planted'",
    ),
    (
        &["I6", "Q1"],
        Order,
        "UPDATE orders SET traceparent = idempotency_key, idempotency_key = (SELECT min(idempotency_key) FROM orders)",
        "UPDATE orders SET idempotency_key = traceparent",
    ),
    (
        &["I6"],
        Order,
        "UPDATE idempotency SET response = response || '\\x0a03616263'::bytea",
        "UPDATE idempotency SET response = substr(response, 1, length(response) - 5)",
    ),
    (
        &["I7", "Q3"],
        Psp,
        "INSERT INTO operation SELECT 'second', kind, authorization_key, order_id, amount_minor, currency, outcome, code, reference, request_sha256 FROM operation WHERE outcome = 'captured'",
        "DELETE FROM operation WHERE idempotency_key = 'second'",
    ),
    (
        &["I7"],
        Psp,
        "UPDATE operation SET amount_minor = amount_minor + 1 WHERE outcome = 'approved'",
        "UPDATE operation SET amount_minor = amount_minor - 1 WHERE outcome = 'approved'",
    ),
    (
        &["I7", "Q4"],
        Psp,
        "UPDATE operation SET outcome = 'captured', code = outcome WHERE outcome = 'voided'",
        "UPDATE operation SET outcome = code WHERE code = 'voided'",
    ),
    (
        &["I7"],
        Psp,
        "INSERT INTO operation SELECT 'nobody', kind, 'nobody', '00000000-0000-7000-8000-000000000000', amount_minor, currency, outcome, code, reference, request_sha256 FROM operation WHERE outcome = 'approved' LIMIT 1",
        "DELETE FROM operation WHERE idempotency_key = 'nobody'",
    ),
    (
        &["Q4"],
        Psp,
        "UPDATE authorization_state SET status = 'open' WHERE status = 'voided'",
        "UPDATE authorization_state SET status = 'voided' WHERE status = 'open'",
    ),
    (
        &["I8"],
        Order,
        "UPDATE user_guard SET open_orders = open_orders + 1",
        "UPDATE user_guard SET open_orders = open_orders - 1",
    ),
    (
        &["I8"],
        Order,
        "UPDATE user_spent SET minor_units = minor_units + 1",
        "UPDATE user_spent SET minor_units = minor_units - 1",
    ),
    (
        &["I10"],
        Payment,
        "UPDATE event_log SET sha256 = decode(repeat('00', 32), 'hex'), topic = encode(sha256, 'hex') WHERE type = 'portolan.payment.captured.v1'",
        "UPDATE event_log SET sha256 = decode(topic, 'hex'), topic = 'portolan.payment.v1' WHERE type = 'portolan.payment.captured.v1'",
    ),
    (
        &["Q1"],
        Order,
        "UPDATE orders SET idempotency_key = 'nobody-' || idempotency_key",
        "UPDATE orders SET idempotency_key = substr(idempotency_key, 8)",
    ),
    (
        &["Q3"],
        Payment,
        "UPDATE payment SET state = 'VOIDED' WHERE state = 'CAPTURED'",
        "UPDATE payment SET state = 'CAPTURED' WHERE order_id IN (SELECT order_id FROM payment_ledger WHERE kind = 'capture')",
    ),
    (
        &["Q3"],
        Payment,
        "UPDATE payment_ledger SET amount = amount + 1 WHERE kind = 'capture'",
        "UPDATE payment_ledger SET amount = amount - 1 WHERE kind = 'capture'",
    ),
    // Under-captured: less than the order's amount, as no constraint of the provider would refuse.
    (
        &["Q3"],
        Psp,
        "UPDATE operation SET amount_minor = amount_minor - 1 WHERE outcome = 'captured'",
        "UPDATE operation SET amount_minor = amount_minor + 1 WHERE outcome = 'captured'",
    ),
    // Refunded: the capture stands, but the customer has the money back.
    (
        &["Q3"],
        Psp,
        "INSERT INTO operation SELECT 'back', 'refund', authorization_key, order_id, amount_minor, currency, 'refunded', code, reference, request_sha256 FROM operation WHERE outcome = 'captured'",
        "DELETE FROM operation WHERE idempotency_key = 'back'",
    ),
    (
        &["Q3"],
        Notification,
        "UPDATE mail_ledger SET message_id = 'other-' || message_id",
        "UPDATE mail_ledger SET message_id = substr(message_id, 7)",
    ),
    (&["Q6"], Order, "INSERT INTO parked_key (grp, key) VALUES (1, 'x')", "DELETE FROM parked_key"),
    (&["Q7"], Inventory, "UPDATE inbox SET grp = 9", "UPDATE inbox SET grp = 2"),
    (
        &["Q8", "Q9"],
        Order,
        "UPDATE event_log SET version = version + 10 WHERE type = 'portolan.order.placed.v1'",
        "UPDATE event_log SET version = version - 10 WHERE type = 'portolan.order.placed.v1'",
    ),
    (
        &["Q9"],
        Order,
        "UPDATE order_timeline SET order_id = event_id, detail = order_id::text || detail",
        "UPDATE order_timeline SET order_id = left(detail, 36)::uuid, detail = substr(detail, 37)",
    ),
    (
        &["Q9"],
        Notification,
        "INSERT INTO event_log SELECT gen_random_uuid(), event_day, key, topic, type, 99, sha256, at FROM event_log LIMIT 1",
        "DELETE FROM event_log WHERE version = 99",
    ),
];

async fn run(database: &PgPool, sql: &'static str) {
    let done = sqlx::query(sql).execute(database).await;
    let done = done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(done.rows_affected() > 0 || sql == UNGUARD, "nothing to change: {sql}");
}

/// A shop at rest with one completed and one cancelled order, its processes gone.
async fn shop() -> Shop {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let completed = alice.place(&[("CUP", 1)], "tok_ok_1").await;
    alice.becomes(completed, "COMPLETED").await;
    let cancelled = alice.place(&[("CUP", 1)], "tok_capture_fails_1").await;
    alice.becomes(cancelled, "CANCELLED").await;
    shop.assert_sound().await;
    for service in Service::ALL {
        shop.kill(service, 0);
    }
    shop
}

#[tokio::test]
async fn every_planted_violation_is_named() {
    let shop = shop().await;
    for service in [Order, Inventory, Payment, Notification, Psp] {
        run(shop.database(service), UNGUARD).await;
    }
    for (expected, service, plant, repair) in PLANTS {
        run(shop.database(*service), plant).await;
        let found = shop.audit(&["--settle-secs", "0"]).await;
        assert_eq!(found.code, Some(1), "{plant}: {found:#?}");
        let violated = found.violated();
        let missed: Vec<_> = expected.iter().filter(|id| !violated.contains(id)).collect();
        assert!(missed.is_empty(), "{missed:?} missed of {plant}: {found:#?}");
        run(shop.database(*service), repair).await;
    }
    let found = shop.audit(&["--settle-secs", "0"]).await;
    assert_eq!(found.verdict, "clean", "everything was taken back: {found:#?}");
}

#[tokio::test]
async fn a_fence_that_goes_down_while_the_audit_runs_is_named() {
    let shop = shop().await;
    let sinking = async {
        loop {
            run(shop.database(Order), "UPDATE user_guard SET fence = fence - 1").await;
        }
    };
    let found = tokio::select! {
        found = shop.audit(&["--online"]) => found,
        () = sinking => unreachable!(),
    };
    assert_eq!(found.violated(), ["I9"], "{found:#?}");
    assert!(found.findings["I9"][0].starts_with("alice: fence is "), "{found:#?}");
}

#[tokio::test]
async fn orders_that_are_older_than_the_log_of_events_are_no_violation() {
    let shop = shop().await;
    run(shop.database(Order), "DELETE FROM event_log WHERE type = 'portolan.order.placed.v1'")
        .await;
    let found = shop.audit(&[]).await;
    assert!(found.violated().contains(&"Q9"), "{found:#?}");
    run(shop.database(Order), "UPDATE order_event SET at = at - interval '20 days'").await;
    let found = shop.audit(&[]).await;
    assert!(!found.violated().contains(&"Q9"), "{found:#?}");
}

#[tokio::test]
async fn what_is_on_the_topics_is_held_against_what_was_committed() {
    let mut shop = shop().await;
    // A record that nobody committed, then one with another content under a known id.
    let records = shop.records().await;
    let (topic, known) = records.first().cloned().unwrap();
    let id = known.header("ce_id").unwrap().to_owned();
    shop.kafka().produce(Topic::Payment, &known.key, &[("ce_type", "x")], "forged").await;
    let found = shop.audit(&["--settle-secs", "0"]).await;
    assert_eq!(found.violated(), ["I10"], "{found:#?}");
    shop.kafka().produce(topic, &known.key, &[("ce_id", &id)], "another content").await;
    let found = shop.audit(&["--online"]).await;
    assert_eq!(found.findings["I10"].len(), 2, "{found:#?}");
    assert!(found.findings["I10"].iter().any(|row| row.contains(&id)), "{found:#?}");
    assert!(!found.findings.contains_key("Q1"), "online means what holds at any time");

    // What cannot be looked at is no violation, and no approval either.
    shop.break_topics();
    let found = shop.audit(&[]).await;
    assert_eq!((found.code, found.verdict.as_str()), (Some(2), ""), "{found:#?}");
    assert!(found.errors.contains("has no topic"), "{}", found.errors);
    let nowhere = audit(&["--state".to_owned(), "/nonexistent".to_owned()]).await;
    assert_eq!(nowhere.code, Some(2), "{nowhere:#?}");
    assert!(nowhere.errors.contains("/nonexistent/databases.json"), "{}", nowhere.errors);
}

#[tokio::test]
async fn work_that_never_ends_is_named_instead_of_a_verdict() {
    let shop = Shop::open().await;
    let alice = shop.customer("alice");
    let order = alice.place(&[("CUP", 1)], "tok_hang_1").await;
    alice.becomes(order, "AWAITING_PAYMENT").await;
    let found = shop.audit(&["--settle-secs", "1"]).await;
    assert_eq!((found.code, found.verdict.as_str()), (Some(1), "not_at_rest"), "{found:#?}");
    let unfinished = ["order: 1 orders not final", "payment: 1 payments not final"]
        .map(|work| format!("{work}: {order}"));
    assert_eq!(found.unfinished, unfinished, "{found:#?}");
    let found = shop.audit(&["--online"]).await;
    assert_eq!((found.code, found.verdict.as_str()), (Some(0), "clean"), "{found:#?}");
    let _ = alice.cancel(order).await.unwrap().expect(200);
    shop.assert_sound().await;
}
