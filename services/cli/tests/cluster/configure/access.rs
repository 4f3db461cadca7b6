use std::time::Duration;

use portolan_cli::pki::{Certificate, LeafRequest, spiffe_id};
use serde_json::{Value, json};

use super::{GATEWAY, IDENTITY, ORDER, PAYMENT, Shop};
use crate::{postgres::WRONG_PASSWORD, program::eventually};

#[test]
#[ignore = "needs a vault binary"]
fn a_workload_gets_certificates_for_itself_only() {
    let shop = Shop::running("certificates");
    shop.configure(&[GATEWAY, ORDER, PAYMENT]);
    let own = json!({
        "common_name": "order", "alt_names": "order.shop.svc", "uri_sans": IDENTITY,
        "private_key_format": "pkcs8",
    });
    let (status, answer) = shop.issue("order", &own);
    assert_eq!(status, 200, "{answer}");
    let text = |key: &str| answer["data"][key].as_str().unwrap();
    let leaf = Certificate::from_pem(text("certificate")).unwrap();
    let said = LeafRequest {
        name: "order".to_owned(),
        dns: vec!["order".to_owned(), "order.shop.svc".to_owned()],
        ips: Vec::new(),
        uri: IDENTITY.to_owned(),
        ttl: Duration::ZERO,
    };
    assert!(leaf.says(&said));
    let chain = shop.read("order", "pki/cert/ca_chain");
    let chain = Certificate::all(chain["ca_chain"].as_str().unwrap()).unwrap();
    let issuer = Certificate::from_pem(text("issuing_ca")).unwrap();
    assert!(leaf.is_signed_by(&issuer) && issuer.is_signed_by(shop.root().certificate()));
    assert!(chain.contains(&issuer) && chain.contains(shop.root().certificate()));

    let other = spiffe_id("portolan.local", "shop", "payment");
    for (key, value) in [
        ("uri_sans", &*other),
        ("uri_sans", "spiffe://portolan.local/ns/shop/sa/order2"),
        ("uri_sans", "spiffe://portolan.local/ns/shop/sa/ORDER"),
        ("uri_sans", &*format!("{IDENTITY},{other}")),
        ("common_name", "payment"),
        ("common_name", "kafka"),
        ("common_name", "a.order.shop.svc"),
        ("common_name", "*.order.shop.svc"),
        ("alt_names", "payment.shop.svc"),
        ("ip_sans", "127.0.0.1"),
    ] {
        let mut wrong = own.clone();
        wrong[key] = value.into();
        assert_eq!(shop.issue("order", &wrong).0, 400, "{key} = {value}");
    }
    let token = shop.token("order");
    for path in ["pki/issue/payment", "pki/sign/order", "sys/policies/acl/portolan-order"] {
        assert_eq!(shop.world.vault.status("POST", path, &token, &own), 403, "{path}");
    }
    assert!(shop.world.log_in("payment", "portolan-order").is_err());
}

#[test]
#[ignore = "needs a vault binary"]
fn a_login_may_do_in_its_database_what_its_workload_may_and_nothing_elsewhere() {
    let shop = Shop::running("logins");
    let said = shop.configure(&[GATEWAY, ORDER, PAYMENT]);
    assert!(said.contains("made the database portolan_order\n"), "{said}");
    let (owner, runtime, reader) =
        (shop.login("order-migrate"), shop.login("order"), shop.login("audit"));
    let order = |login, sql: &str| shop.postgres.run(login, "portolan_order", sql);
    let migration = "CREATE TABLE item (id bigserial PRIMARY KEY, name text);;\
                     CREATE FUNCTION widen() RETURNS void LANGUAGE sql SECURITY DEFINER \
                     AS 'CREATE TABLE IF NOT EXISTS part (id int)'";
    assert_eq!(order(&owner, migration), Ok(Vec::new()));
    let owned_by = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'item'";
    assert_eq!(order(&owner, owned_by), Ok(vec!["portolan_order_owner".to_owned()]));

    let insert = "INSERT INTO item (name) VALUES ('tea')";
    let select = "SELECT name FROM item";
    let denied = Err("42501".to_owned());
    assert_eq!(order(&runtime, insert), Ok(Vec::new()));
    assert_eq!(order(&runtime, select), Ok(vec!["tea".to_owned()]));
    assert_eq!(
        order(&runtime, "SELECT coalesce(widen()::text, 'done')"),
        Ok(vec!["done".to_owned()])
    );
    assert_eq!(order(&runtime, "SELECT name FROM item;;DELETE FROM part"), Ok(Vec::new()));
    for sql in ["CREATE TABLE mine ()", "DROP TABLE item", "SET ROLE portolan_order_owner"] {
        assert_eq!(order(&runtime, sql), denied, "{sql}");
    }
    assert_eq!(order(&reader, select), Ok(vec!["tea".to_owned()]));
    for sql in [insert, "SELECT widen()::text", "SELECT nextval('item_id_seq')::text"] {
        assert_eq!(order(&reader, sql), denied, "{sql}");
    }
    let here = "SELECT current_database()::text";
    assert!(shop.postgres.run(&reader, "portolan_payment", here).is_ok());
    for (login, database) in
        [(&runtime, "portolan_payment"), (&runtime, "postgres"), (&owner, "template1")]
    {
        assert_eq!(shop.postgres.run(login, database, here), denied, "{database}");
    }
    let first = shop.world.api.secret("postgres-bootstrap", "vault_admin").unwrap();
    let first = ("vault_admin".to_owned(), first);
    assert_eq!(shop.postgres.run(&first, "postgres", here), Err(WRONG_PASSWORD.to_owned()));
    assert!(shop.read("gateway", "kv/data/issuer").is_object());
    let token = shop.token("gateway");
    for path in ["database/creds/order", "kv/data/provider"] {
        assert_eq!(shop.world.vault.status("GET", path, &token, &Value::Null), 403, "{path}");
    }
}

#[test]
#[ignore = "needs a vault binary"]
fn a_login_and_its_sessions_end_with_its_lease() {
    let shop = Shop::running("leases");
    shop.configure(&[ORDER]);
    let token = shop.token("order-migrate");
    let path = "database/creds/order-migrate";
    let (_, lease) = shop.world.vault.call("GET", path, &token, &Value::Null);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let login = (text(&lease["data"]["username"]), text(&lease["data"]["password"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut session = runtime.block_on(shop.postgres.open(&login, "portolan_order")).unwrap();
    let make = sqlx::query("CREATE TABLE kept (id int)").execute(&mut session);
    runtime.block_on(make).unwrap();
    // The lease is a child of the token.
    shop.world.vault.call("POST", "auth/token/revoke-self", &token, &json!({}));
    let count = format!("SELECT count(*)::text FROM pg_roles WHERE rolname = '{}'", login.0);
    eventually("the login is dropped, though it made a table", || {
        let rows = shop.postgres.as_superuser(&shop.world, "postgres", &count);
        (rows == Ok(vec!["0".to_owned()])).then_some(())
    });
    let after = sqlx::query("SELECT 1").execute(&mut session);
    assert!(runtime.block_on(after).is_err(), "the session has ended");
    let kept = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'kept'";
    let kept = shop.postgres.as_superuser(&shop.world, "portolan_order", kept);
    assert_eq!(kept, Ok(vec!["portolan_order_owner".to_owned()]));
}
