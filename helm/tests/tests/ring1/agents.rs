//! The configuration of `vault agent`: which files it writes, and for whom.

use std::collections::BTreeSet;

use portolan_chart_tests::object::{Pod, list, text, texts};

use crate::support::{Findings, Rendered, everywhere};

/// The agent's configuration in a pod: of the sidecar, or what Vault's webhook is told to use.
pub(crate) fn configurations(rendered: &Rendered, pod: Pod<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for volume in list(pod.spec(), "/volumes") {
        for map in portolan_chart_tests::object::config_maps_of(volume) {
            let map = rendered.objects.get("ConfigMap", text(map, "/name"));
            for file in map.map(|map| texts(&map.0, "/data")).unwrap_or_default().into_values() {
                if file.contains("auto_auth {") && !found.contains(&file) {
                    found.push(file);
                }
            }
        }
    }
    found
}

/// The blocks `template { … }` of a configuration, each as its own text.
fn templates(configuration: &str) -> Vec<&str> {
    configuration.split("\ntemplate {").skip(1).collect()
}

/// The value of a setting.
fn setting<'a>(block: &'a str, name: &str) -> &'a str {
    let line = block.lines().map(str::trim).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then_some(value.trim())
    });
    line.unwrap_or_default().trim_matches('"')
}

/// What a certificate is asked for with: the words in quotes after `pkiCert`.
fn certificate_request(configuration: &str) -> Vec<&str> {
    let Some((_, rest)) = configuration.split_once("pkiCert") else { return Vec::new() };
    let line = rest.lines().next().unwrap_or_default();
    line.split('"').skip(1).step_by(2).collect()
}

fn requested<'a>(configuration: &'a str, name: &str) -> &'a str {
    let request = certificate_request(configuration).into_iter();
    request
        .filter_map(|word| word.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or("", |v| v.1)
}

/// The role at the certificate authority: the last part of `pki/issue/<role>`.
pub(crate) fn pki_role(configuration: &str) -> String {
    let path = certificate_request(configuration).into_iter().next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The DNS names that it wants in its certificate.
pub(crate) fn dns_names(configuration: &str) -> Vec<String> {
    let others = requested(configuration, "alt_names");
    let all = [requested(configuration, "common_name"), others].join(",");
    all.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn in_every_agent(look: impl Fn(&Rendered, Pod<'_>, &str, &mut Findings)) {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods() {
            for configuration in configurations(rendered, pod) {
                look(rendered, pod, &configuration, findings);
            }
        }
        findings.check(true, String::new);
    });
}

#[test]
fn a_certificate_its_issuer_and_its_key_are_one_file_from_one_request() {
    in_every_agent(|_, pod, configuration, findings| {
        let mut must =
            |holds, what: &str| findings.check(holds, || format!("{}: {what}", pod.owner));
        must(configuration.matches("pkiCert").count() == 1, "more or less than one certificate");
        must(!configuration.contains("writeToFile"), "writeToFile can be read half-written");
        must(
            !configuration.contains("pki/issue") || configuration.contains("pkiCert"),
            "no pkiCert",
        );
        let all = templates(configuration);
        must(!all.is_empty(), "no template");
        for block in all {
            let whole = ["{{ .Cert }}{{ .CA }}{{ .Key }}"].iter().all(|part| block.contains(part));
            must(whole == block.contains("pkiCert"), "not leaf, issuer and key in this order");
            must(setting(block, "error_on_missing_key") == "true", "a missing key would be empty");
            must(setting(block, "perms") == "0440", "files that others can read");
        }
    });
}

#[test]
fn the_key_is_written_so_that_kafka_and_rustls_can_read_it() {
    in_every_agent(|_, pod, configuration, findings| {
        let format = requested(configuration, "private_key_format");
        findings.check(format == "pkcs8", || format!("{}: the key is not PKCS#8", pod.owner));
    });
}

#[test]
fn an_agent_asks_for_the_identity_of_its_own_pod() {
    in_every_agent(|rendered, pod, configuration, findings| {
        let account = pod.service_account();
        let identity = requested(configuration, "uri_sans");
        let place = format!("/ns/{}/sa/{account}", rendered.install.namespace);
        findings.check(identity.starts_with("spiffe://") && identity.ends_with(&place), || {
            format!("{}: asks to be {identity}", pod.owner)
        });
        // Vault takes `*` for anything.
        findings.check(!identity.contains('*') && !identity.contains(','), || {
            format!("{}: asks to be more than one", pod.owner)
        });
        let name = requested(configuration, "common_name");
        findings.check(name == account && pki_role(configuration) == account, || {
            format!("{}: Kafka would take it for {name}", pod.owner)
        });
        let role = setting(configuration, "role");
        findings.check(role.ends_with(account), || format!("{}: logs in as {role}", pod.owner));
    });
}

#[test]
fn an_agent_outlasts_a_slow_first_installation() {
    in_every_agent(|_, pod, configuration, findings| {
        let mut must =
            |holds, what: &str| findings.check(holds, || format!("{}: {what}", pod.owner));
        let retries = configuration.split("num_retries = ").nth(1).and_then(|rest| {
            rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u32>().ok()
        });
        must(retries.is_some_and(|retries| retries >= 120), "it gives up before Vault is set up");
        must(setting(configuration, "max_backoff") == "3s", "its log-in waits for long");
        must(setting(configuration, "exit_on_retry_failure") == "true", "it would stand still");
    });
}

#[test]
fn the_programs_start_when_every_file_is_there() {
    in_every_agent(|_, pod, configuration, findings| {
        let sidecars: Vec<_> =
            pod.containers().into_iter().filter(|container| container.name() == "agent").collect();
        for sidecar in sidecars {
            findings.check(sidecar.init && sidecar.runs_along(), || {
                format!("{sidecar} is no native sidecar: a Job would never end")
            });
            let probe = &sidecar.value["startupProbe"];
            let asked: Vec<_> =
                list(probe, "/exec/command").iter().filter_map(|word| word.as_str()).collect();
            let asked = asked.join(" ");
            for block in templates(configuration) {
                let file = setting(block, "destination");
                findings.check(asked.contains(&format!("-s {file}")), || {
                    format!("{sidecar}: nobody waits for {file}")
                });
            }
            let patience = probe["periodSeconds"].as_u64().unwrap_or(10)
                * probe["failureThreshold"].as_u64().unwrap_or(3);
            findings.check(patience >= 300, || format!("{sidecar} is killed after {patience} s"));
        }
    });
}

#[test]
fn what_the_agent_writes_is_kept_in_memory_and_read_by_the_program() {
    in_every_agent(|_, pod, configuration, findings| {
        let files: BTreeSet<_> = templates(configuration)
            .into_iter()
            .map(|block| setting(block, "destination"))
            .collect();
        findings.check(files.len() == templates(configuration).len(), || {
            format!("{}: two templates write one file", pod.owner)
        });
        for container in pod.containers().into_iter().filter(|c| crate::pods::is_ours(*c)) {
            for file in &files {
                let volume = container.volume_of(file).map(|(volume, _)| volume);
                let memory =
                    volume.is_none_or(|volume| text(volume, "/emptyDir/medium") == "Memory");
                findings.check(memory, || format!("{container}: {file} is on a disk"));
            }
            let mount = list(container.value, "/volumeMounts")
                .iter()
                .find(|mount| text(mount, "/mountPath") == "/secrets");
            findings.check(mount.is_none_or(|mount| mount["readOnly"] == true), || {
                format!("{container} can write its own secrets")
            });
        }
    });
}

#[test]
fn the_agents_token_is_for_vault_alone() {
    in_every_agent(|_, pod, _, findings| {
        let tokens: Vec<_> = list(pod.spec(), "/volumes")
            .iter()
            .flat_map(|volume| list(volume, "/projected/sources"))
            .filter_map(|source| source.get("serviceAccountToken"))
            .map(|token| text(token, "/audience"))
            .collect();
        findings.check(tokens == ["vault"], || format!("{}: tokens for {tokens:?}", pod.owner));
    });
}

#[test]
fn braces_and_quotes_of_the_configuration_are_balanced() {
    in_every_agent(|_, pod, configuration, findings| {
        let count = |part: &str| configuration.matches(part).count();
        findings.check(count("{") == count("}"), || format!("{}: braces", pod.owner));
        findings.check(count("\"") % 2 == 0, || format!("{}: quotes", pod.owner));
        findings.check(count("<<EOT") * 2 == count("EOT"), || format!("{}: texts", pod.owner));
    });
}
