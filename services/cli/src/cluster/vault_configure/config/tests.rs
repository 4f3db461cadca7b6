use portolan_runtime::config::from_toml;

use super::*;
use crate::cluster::settings::documented;

fn text() -> String {
    documented(include_str!("../mod.rs"))
}

#[test]
fn the_documented_file_is_one() {
    let config: Config = from_toml(&text()).unwrap();
    assert_eq!(config.databases(), BTreeSet::from(["portolan_order", "portolan_payment"]));
    let [order, audit] = &config.workload[..] else { panic!("two workloads") };
    assert_eq!(order.names(), BTreeSet::from(["order", "order.shop.svc"]));
    assert_eq!(audit.access, Some(Access::Reader));
}

#[test]
fn what_has_a_default_may_be_left_out() {
    let least = "[vault]\naddress = 'https://vault:8200'\nnamespace = 'shop'\n\
                 [pki]\ntrust_domain = 'portolan.local'\n[kv]\n";
    let least: Config = from_toml(least).unwrap();
    let all: Config = from_toml(&text()).unwrap();
    assert_eq!(format!("{:?}", least.mounts()), format!("{:?}", all.mounts()));
    let defaults = |config: &Config| {
        let VaultConfig { token_file, auth_mount, role, prefix, audience, token_period, .. } =
            config.vault.clone();
        let PkiConfig { mount, max_ttl, leaf_ttl, .. } = config.pki.clone();
        let texts = [auth_mount, role, prefix, audience, token_period, mount, max_ttl, leaf_ttl];
        (texts, token_file, config.wait_secs)
    };
    assert_eq!(defaults(&least), defaults(&all));
}

#[test]
fn no_name_is_a_pattern_or_more_than_a_name() {
    for (from, to, key) in [
        ("name = \"order\"", "name = \"order*\"", "workload.name"),
        ("service_account = \"order\"", "service_account = \"*\"", "workload.service_account"),
        ("\"order.shop.svc\"", "\"*.shop.svc\"", "workload.dns"),
        ("\"order.shop.svc\"", "\"a,b\"", "workload.dns"),
        ("\"portolan.local\"", "\"*\"", "pki.trust_domain"),
        ("namespace = \"shop\"", "namespace = \"*\"", "vault.namespace"),
        ("prefix = \"portolan-\"", "prefix = \"*\"", "vault.prefix"),
        ("\"portolan_order\"", "\"a\\\"; DROP\"", "workload.database"),
        ("/etc/vault/tls/tls.key", "/tls.key&host=evil", "database.vault_key"),
        ("admin = \"vault_admin\"", "admin = \"a'b\"", "database.admin"),
        ("\"vault_admin\"", "\"Vault\"", "database.admin"),
    ] {
        refused(from, to, key);
    }
}

#[test]
fn what_goes_together_is_given_together() {
    for (from, to, key) in [
        ("access = \"runtime\"", "", "workload.access"),
        ("database = \"portolan_order\"", "", "workload.access"),
        ("access = \"reader\"", "access = \"owner\"", "workload.databases"),
        ("name = \"audit\"", "name = \"order\"", "workload.name"),
        ("kv = []", "kv = [\"unseal\"]", "workload.kv"),
        ("root_key = \"/etc/portolan-root/tls.key\"", "", "pki.root_key"),
        ("client_key = \"/etc/portolan-client/tls.key\"", "", "database.client_key"),
        ("vault_cert = \"/etc/vault/tls/tls.crt\"", "", "database.vault_key"),
        ("own_policy = \"configure\"", "own_policy = \"portolan-x\"", "vault.own_policy"),
        ("[\"operator\"]", "[\"king\"]", "kv.roles.olga"),
        ("leaf_ttl = \"24h\"", "leaf_ttl = \"1d\"", "pki.leaf_ttl"),
    ] {
        refused(from, to, key);
    }
}

fn refused(from: &str, to: &str, key: &str) {
    assert!(text().contains(from), "{from}");
    let error = from_toml::<Config>(&text().replacen(from, to, 1)).unwrap_err().to_string();
    assert!(error.contains(key), "{to}: {error}");
}
