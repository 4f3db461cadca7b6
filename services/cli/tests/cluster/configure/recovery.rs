use std::fs;

use serde_json::json;

use super::{GATEWAY, ORDER, PAYMENT, Shop};
use crate::program::{Running, eventually, fail, portolan, quoted, succeed};

#[test]
#[ignore = "needs a vault binary"]
fn who_needs_no_database_does_not_wait_for_one() {
    let mut shop = Shop::new("late");
    let config = shop.config(&[GATEWAY, ORDER]);
    let log = shop.world.directory.0.join("configure.log");
    let mut configure = Running::start(portolan("vault-configure", &config, &[]), &log);
    configure.wait_for("PostgreSQL's roles: trying again: database postgres as postgres");
    let body = json!({"common_name": "gateway"});
    assert_eq!(shop.issue("gateway", &body).0, 200);
    assert!(shop.world.log_in("order", "portolan-order").is_err(), "there is nothing for it yet");
    shop.postgres.start();
    configure.wait_for("Vault is up to date");
    assert!(shop.postgres.run(&shop.login("order"), "portolan_order", "SELECT ''").is_ok());
    let waits = configure.said().matches("trying again").count();
    assert!(waits <= 3, "said once for each cause: {}", configure.said());
}

#[test]
#[ignore = "needs a vault binary"]
fn a_new_vault_and_a_new_database_find_together_again() {
    let mut shop = Shop::running("lost");
    shop.configure(&[ORDER]);
    let works = |shop: &Shop| {
        let answer = shop.postgres.run(&shop.login("order"), "portolan_order", "SELECT ''");
        assert!(answer.is_ok(), "{answer:?}");
    };
    works(&shop);
    // A new Vault does not know the password that the old one set.
    shop.world.vault.lose_everything();
    shop.operator.wait_for("unsealed Vault");
    eventually("handed over", || shop.world.log_in("vault-configure", "configure").ok());
    assert!(shop.configure(&[ORDER]).contains("Vault changed the password of vault_admin"));
    works(&shop);
    // A new PostgreSQL does not know Vault's.
    let world = &shop.world;
    shop.postgres.lose_everything(world);
    assert!(shop.configure(&[ORDER]).contains("Vault changed the password of vault_admin"));
    works(&shop);
    // Stopped between writing the connection and changing the password.
    let first = fs::read_to_string(shop.world.directory.0.join("passwords/vault_admin")).unwrap();
    let reset = format!("ALTER ROLE vault_admin PASSWORD '{first}'");
    shop.postgres.as_superuser(&shop.world, "postgres", &reset).unwrap();
    assert!(shop.configure(&[ORDER]).contains("Vault changed the password of vault_admin"));
    works(&shop);
}

#[test]
#[ignore = "needs a vault binary"]
fn an_outside_vault_and_a_managed_database_will_do() {
    let shop = Shop::running("outside");
    // As a cloud's administrator: may make roles and databases, is no superuser.
    let manager = "CREATE ROLE manager LOGIN CREATEROLE CREATEDB PASSWORD 'managed';;\
                   GRANT pg_signal_backend TO manager WITH ADMIN OPTION;;\
                   GRANT CONNECT ON DATABASE postgres TO manager WITH GRANT OPTION";
    shop.postgres.as_superuser(&shop.world, "postgres", manager).unwrap();
    shop.world.directory.write("passwords/manager", "managed");
    let server = "superuser = \"manager\"\nshared_server = true";
    let config = shop.config_as(&[ORDER], server, "passwords/manager");
    let token = shop.world.log_in("vault-configure", "configure").unwrap();
    shop.world.directory.write("token", &token);
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("[vault]\n", "[vault]\nlogin = \"token\"\n");
    let config = shop.world.directory.write("outside.toml", &text);
    succeed(portolan("vault-configure", &config, &[]));
    succeed(portolan("vault-configure", &config, &[]));
    let migrate = shop.postgres.run(
        &shop.login("order-migrate"),
        "portolan_order",
        "CREATE TABLE item (name text)",
    );
    assert_eq!(migrate, Ok(Vec::new()));
    let order = shop.postgres.run(
        &shop.login("order"),
        "portolan_order",
        "INSERT INTO item VALUES ('tea') RETURNING name",
    );
    assert_eq!(order, Ok(vec!["tea".to_owned()]));
}

#[test]
#[ignore = "needs a vault binary"]
fn tables_that_are_there_already_are_everybodys_who_may() {
    let shop = Shop::running("tables");
    let owner = "CREATE ROLE portolan_order_owner NOLOGIN;;\
                 CREATE DATABASE portolan_order OWNER portolan_order_owner";
    shop.postgres.as_superuser(&shop.world, "postgres", owner).unwrap();
    let table = "SET ROLE portolan_order_owner;;CREATE TABLE item (id bigserial, name text)";
    shop.postgres.as_superuser(&shop.world, "portolan_order", table).unwrap();
    shop.configure(&[ORDER]);
    let insert = "INSERT INTO item (name) VALUES ('tea') RETURNING name";
    let inserted = shop.postgres.run(&shop.login("order"), "portolan_order", insert);
    assert_eq!(inserted, Ok(vec!["tea".to_owned()]));
    // Not a database of somebody else, though.
    let other = "CREATE DATABASE portolan_payment";
    shop.postgres.as_superuser(&shop.world, "postgres", other).unwrap();
    let config = shop.config(&[ORDER, PAYMENT]);
    let text = fs::read_to_string(&config).unwrap().replace("wait_secs = 60", "wait_secs = 1");
    let config = shop.world.directory.write("short.toml", &text);
    let said = fail(portolan("vault-configure", &config, &[]));
    let wanted = "database portolan_payment belongs to postgres, not to portolan_payment_owner";
    assert!(said.contains(wanted), "{said}");
}

#[test]
#[ignore = "needs a vault binary"]
fn a_server_that_wants_certificates_gets_them() {
    let mut shop = Shop::new("certified");
    shop.postgres.admit("scram-sha-256 clientcert=verify-ca");
    let file = |name: &str| shop.world.directory.0.join(name);
    let files = [file("tls.crt"), file("tls.key")];
    let [certificate, key] = files.each_ref().map(|file| quoted(file));
    let server = format!(
        "client_cert = {certificate}\nclient_key = {key}\nvault_ca = {ca}\n\
         vault_cert = {certificate}\nvault_key = {key}",
        ca = quoted(&shop.world.vault.ca),
    );
    shop.postgres.identity = Some(files);
    shop.postgres.start();
    let config = shop.config_as(&[ORDER], &server, "passwords/superuser");
    for _ in 0..2 {
        succeed(portolan("vault-configure", &config, &[]));
        let login = shop.login("order");
        assert!(shop.postgres.run(&login, "portolan_order", "SELECT ''").is_ok());
    }
    let login = shop.login("order");
    shop.postgres.identity = None;
    assert!(shop.postgres.run(&login, "portolan_order", "SELECT ''").is_err());
}

#[test]
#[ignore = "needs a vault binary"]
fn who_is_not_let_in_is_told_why() {
    let shop = Shop::running("refused");
    let config = shop.config(&[GATEWAY]);
    let text = fs::read_to_string(&config).unwrap().replace("wait_secs = 60", "wait_secs = 1");
    let config = shop.world.directory.write("short.toml", &text);
    let token = shop.world.api.account_token("order", "vault");
    shop.world.directory.write("token", &token);
    let said = fail(portolan("vault-configure", &config, &[]));
    assert!(said.contains("service account name not authorized"), "{said}");
    assert!(!said.contains(&token), "{said}");
}
