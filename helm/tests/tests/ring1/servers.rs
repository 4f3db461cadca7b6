//! What the servers of the installation demand of their clients.

use portolan_chart_tests::object::text;

use crate::{config, support::everywhere};

#[test]
fn the_database_lets_nobody_in_over_the_network_without_tls_and_a_certificate() {
    everywhere(|rendered, findings| {
        let vault_inside =
            rendered.objects.of_kind("StatefulSet").any(|s| s.component() == "vault");
        for map in rendered.objects.of_kind("ConfigMap") {
            let rules = text(&map.0, "/data/pg_hba.conf").lines().map(str::trim);
            for rule in rules.filter(|rule| !rule.is_empty() && !rule.starts_with('#')) {
                let words: Vec<_> = rule.split_whitespace().collect();
                let certified = words[0] == "hostssl" && words.contains(&"clientcert=verify-ca");
                // A Vault outside has no certificate that this installation knows.
                let vault = words[..3] == ["hostssl", "postgres", "vault_admin"] && !vault_inside;
                findings.check(certified || vault || words[0] == "local", || {
                    format!("{map} lets in without a certificate: {rule}")
                });
            }
        }
        findings.check(true, String::new);
    });
}

#[test]
fn vault_has_the_files_that_it_is_to_show_the_database() {
    everywhere(|rendered, findings| {
        let containers = || rendered.objects.containers();
        let vault = containers().find(|c| c.pod.component() == "vault" && !c.init);
        for job in containers().filter(|c| c.pod.component() == "vault-configure") {
            let Some(config) = config::of(rendered, job) else { continue };
            for key in ["vault_ca", "vault_cert", "vault_key"] {
                let file = text(&config, &format!("/database/{key}"));
                let there = vault.is_some_and(|vault| vault.volume_of(file).is_some());
                findings.check(file.is_empty() || there, || format!("{key}: Vault has no {file}"));
            }
        }
        findings.check(true, String::new);
    });
}
