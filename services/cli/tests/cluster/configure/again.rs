use std::{thread, time::Duration};

use nix::sys::signal::Signal;
use portolan_auth::verify_password;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{GATEWAY, IDENTITY, ORDER, PAYMENT, Shop};
use crate::program::{Running, portolan, succeed};

#[test]
#[ignore = "needs a vault binary"]
fn a_second_run_changes_nothing_and_keys_and_hashes_stay() {
    let shop = Shop::running("again");
    let all = [GATEWAY, ORDER, PAYMENT];
    let said = shop.configure(&all);
    let made = [
        "logged in to Vault",
        "mounted pki",
        "mounted kv",
        "mounted database",
        "issued an intermediate certificate",
        "wrote kv/issuer",
        "wrote kv/provider",
        "wrote kv/users",
        "made the database role vault_admin",
        "made the database portolan_order",
        "made the database portolan_payment",
        "Vault changed the password of vault_admin",
        "Vault is up to date for 5 workloads",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), made);
    let (issuer, users) = (shop.item("gateway", "issuer"), shop.item("gateway", "users"));
    PrivatePkcs8KeyDer::from_pem_slice(issuer["data"]["pem"].as_str().unwrap().as_bytes()).unwrap();
    let list = users["data"]["users"].as_array().unwrap();
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!((&list[0]["username"], &list[0]["roles"]), (&json!("alice"), &json!(["customer"])));
    assert_eq!((&list[1]["username"], &list[1]["roles"]), (&json!("olga"), &json!(["operator"])));
    let password = shop.world.api.secret("demo-users", "olga").unwrap();
    assert!(verify_password(&password, list[1]["password_hash"].as_str().unwrap()));
    let chain = shop.read("order", "pki/cert/ca_chain");
    let provider = shop.item("payment", "provider");
    assert_eq!(provider["data"]["api_key"].as_str().unwrap().len(), 43);
    let login = shop.login("order");

    let again = "logged in to Vault\nVault is up to date for 5 workloads\n";
    assert_eq!(shop.configure(&all), again);
    assert_eq!(shop.item("gateway", "issuer"), issuer);
    assert_eq!(shop.item("gateway", "users"), users);
    assert_eq!(shop.item("payment", "provider"), provider);
    assert_eq!(shop.read("order", "pki/cert/ca_chain"), chain);
    assert!(shop.postgres.run(&login, "portolan_order", "SELECT ''").is_ok(), "still valid");
    assert!(shop.postgres.run(&shop.login("order"), "portolan_order", "SELECT ''").is_ok());

    // A password that was changed is hashed again, one that was not keeps its hash.
    shop.world.api.put_secret("demo-users", &[("alice", "looking-glass"), ("olga", &password)]);
    assert!(shop.configure(&all).contains("wrote kv/users\n"));
    let after = shop.item("gateway", "users");
    let hash = |users: &Value, who: usize| users["data"]["users"][who]["password_hash"].clone();
    assert_ne!(hash(&after, 0), hash(&users, 0));
    assert_eq!(hash(&after, 1), hash(&users, 1));
}

#[test]
#[ignore = "needs a vault binary"]
fn two_first_runs_at_once_end_with_one_result() {
    let shop = Shop::running("at-once");
    let config = shop.config(&[GATEWAY, ORDER, PAYMENT]);
    let said = thread::scope(|scope| {
        let run = || succeed(portolan("vault-configure", &config, &[]));
        [scope.spawn(run), scope.spawn(run)].map(|run| run.join().unwrap()).concat()
    });
    for once in ["wrote kv/issuer", "wrote kv/provider", "made the database portolan_order"] {
        assert_eq!(said.matches(once).count(), 1, "{once}: {said}");
    }
    let login = shop.login("order");
    assert!(shop.postgres.run(&login, "portolan_order", "SELECT ''").is_ok());
    let body = json!({"common_name": "order", "uri_sans": IDENTITY});
    assert_eq!(shop.issue("order", &body).0, 200);
}

#[test]
#[ignore = "needs a vault binary"]
fn what_is_no_longer_used_is_removed_and_nothing_of_others() {
    let shop = Shop::running("stale");
    shop.configure(&[GATEWAY, ORDER, PAYMENT]);
    let login = shop.login("payment");
    let configure = || shop.world.log_in("vault-configure", "configure").unwrap();
    let (vault, token) = (&shop.world.vault, configure());
    let theirs = json!({"policy": "path \"theirs\" { capabilities = [\"read\"] }"});
    let role = json!({
        "bound_service_account_names": ["order"],
        "bound_service_account_namespaces": ["other"],
        "audience": "vault",
    });
    let domains = json!({"allowed_domains": ["theirs"]});
    let statements = json!({"db_name": "postgres", "creation_statements": ["SELECT 1"]});
    for (path, body) in [
        ("sys/policies/acl/portolan-theirs", &theirs),
        ("auth/kubernetes/role/portolan-theirs", &role),
        ("pki/roles/theirs", &domains),
        ("database/roles/theirs", &statements),
    ] {
        assert!(vault.status("POST", path, &token, body) < 300, "{path}");
    }
    let said = shop.configure(&[GATEWAY, ORDER]);
    let removed: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("removed ")).collect();
    let wanted = [
        "auth/kubernetes/role/portolan-audit",
        "auth/kubernetes/role/portolan-payment",
        "sys/policies/acl/portolan-audit",
        "sys/policies/acl/portolan-payment",
        "pki/roles/payment",
        "database/roles/audit",
        "database/roles/payment",
    ];
    assert_eq!(removed, wanted);
    assert!(shop.world.log_in("payment", "portolan-payment").is_err());
    let token = configure();
    for path in ["pki/roles/theirs", "database/roles/theirs"] {
        assert_eq!(vault.status("GET", path, &token, &Value::Null), 200, "{path}");
    }
    assert_eq!(shop.configure(&[GATEWAY, ORDER]).lines().count(), 2);
    // What was leased lasts as long as it was leased for; the data stay anyway.
    assert!(shop.postgres.run(&login, "portolan_payment", "SELECT ''").is_ok());
}

#[test]
#[ignore = "needs a vault binary"]
fn a_rotation_changes_places_and_keeps_the_previous_key() {
    let shop = Shop::running("rotation");
    let all = [GATEWAY, ORDER, PAYMENT];
    shop.configure(&all);
    let pem = || shop.item("gateway", "issuer")["data"]["pem"].as_str().unwrap().to_owned();
    let keys = || {
        let provider = shop.item("payment", "provider")["data"].take();
        ["api_key", "previous_api_key"].map(|key| provider[key].as_str().unwrap_or("").to_owned())
    };
    let (first_pem, first_keys) = (pem(), keys());
    let rotate = ["--rotate-issuer", "--rotate-provider", "--settle-secs"];
    let config = shop.config(&all);
    // Long enough to see the new keys in second place.
    let log = shop.world.directory.0.join("rotate.log");
    let slow = portolan("vault-configure", &config, &[&rotate[..], &["600"]].concat());
    let mut slow = Running::start(slow, &log);
    slow.wait_for("everybody has 600 s to learn the new key");
    assert!(pem().starts_with(&first_pem) && pem().len() == 2 * first_pem.len());
    assert_eq!(keys()[0], first_keys[0]);
    assert!(slow.end(Signal::SIGTERM) < Duration::from_secs(1));

    succeed(portolan("vault-configure", &config, &[&rotate[..], &["0"]].concat()));
    let (second_pem, second_keys) = (pem(), keys());
    assert!(second_pem.ends_with(&first_pem) && second_pem.len() == 2 * first_pem.len());
    assert_eq!(second_keys[1], first_keys[0]);
    assert_ne!(second_keys[0], first_keys[0]);

    succeed(portolan("vault-configure", &config, &["--rotate-issuer", "--settle-secs", "0"]));
    assert!(!pem().contains(&first_pem) && pem().len() == 2 * first_pem.len());
    assert_eq!(keys(), second_keys);
    assert_eq!(shop.configure(&all).lines().count(), 2, "what was rotated stays");
}
