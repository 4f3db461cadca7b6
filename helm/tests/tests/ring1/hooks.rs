//! What Helm makes, and in which order.

use std::collections::BTreeSet;

use portolan_chart_tests::object::{Object, config_maps_of, list, text};

use crate::support::{Findings, Rendered, everywhere, profile};

/// Whether `needed` is there before `hook` runs: as a hook of the same moments with a lower weight.
fn is_before(needed: &Object, hook: &Object) -> bool {
    let moments = needed.hooks();
    hook.hooks().iter().all(|moment| moments.contains(moment))
        && needed.hook_weight() < hook.hook_weight()
}

/// The hooks that run while nothing else of the release need be there.
fn early_hooks(rendered: &Rendered) -> impl Iterator<Item = &Object> {
    rendered.objects.0.iter().filter(|object| {
        object.pod().is_some() && object.hooks().iter().any(|hook| hook.starts_with("pre-"))
    })
}

#[test]
fn what_a_hook_needs_is_a_hook_with_a_lower_weight() {
    everywhere(|rendered, findings| {
        for hook in early_hooks(rendered) {
            let pod = hook.pod().unwrap();
            let account = rendered.objects.get("ServiceAccount", pod.service_account());
            findings.check(account.is_some_and(|account| is_before(account, hook)), || {
                format!("{hook}: its ServiceAccount is not there when it runs")
            });
            for binding in ["RoleBinding", "ClusterRoleBinding"] {
                for binding in rendered.objects.of_kind(binding) {
                    let about = list(&binding.0, "/subjects")
                        .iter()
                        .any(|subject| text(subject, "/name") == pod.service_account());
                    if !about {
                        continue;
                    }
                    let role = &binding.0["roleRef"];
                    let role = rendered.objects.get(text(role, "/kind"), text(role, "/name"));
                    let there =
                        is_before(binding, hook) && role.is_some_and(|role| is_before(role, hook));
                    findings
                        .check(there, || format!("{hook}: {binding} is not there when it runs"));
                }
            }
            for volume in list(pod.spec(), "/volumes") {
                for map in config_maps_of(volume) {
                    let map = rendered.objects.get("ConfigMap", text(map, "/name"));
                    // What the chart does not make is made by somebody else.
                    findings.check(map.is_none_or(|map| is_before(map, hook)), || {
                        format!("{hook}: {} is not there when it runs", map.unwrap())
                    });
                }
            }
        }
        findings.check(true, String::new);
    });
}

#[test]
fn bootstrap_runs_before_every_installation_and_upgrade_and_after_its_rights_are_there() {
    let rendered = profile("default");
    let bootstrap: Vec<_> = early_hooks(rendered).collect();
    assert_eq!(bootstrap.len(), 1, "one hook prepares the release");
    let moments: BTreeSet<_> = bootstrap[0].hooks().into_iter().collect();
    assert_eq!(moments, BTreeSet::from(["pre-install", "pre-upgrade"]));
    assert_eq!(bootstrap[0].component(), "bootstrap");
}

#[test]
fn a_failed_hook_stays_to_be_looked_at_and_its_successor_replaces_it() {
    everywhere(|rendered, findings| {
        for object in rendered.objects.0.iter().filter(|object| !object.hooks().is_empty()) {
            let policy = object.annotation("helm.sh/hook-delete-policy").unwrap_or_default();
            let policies: Vec<_> = policy.split(',').map(str::trim).collect();
            findings.check(policies.contains(&"before-hook-creation"), || {
                format!("{object} cannot be made a second time")
            });
            findings.check(!policies.contains(&"hook-failed"), || {
                format!("{object} takes its log with it when it fails")
            });
            // Otherwise `helm test --logs` finds the pod gone.
            let test = object.hooks().contains(&"test");
            findings.check(!test || policies == ["before-hook-creation"], || {
                format!("{object} is a test and is deleted when it is done")
            });
        }
    });
}

#[test]
fn helm_test_is_a_job() {
    let tests: Vec<_> = profile("default")
        .objects
        .0
        .iter()
        .filter(|object| object.hooks().contains(&"test") && object.pod().is_some())
        .map(Object::kind)
        .collect();
    assert_eq!(tests, ["Job"]);
}

#[test]
fn a_job_that_fails_keeps_its_pods_and_their_logs() {
    everywhere(|rendered, findings| {
        for job in rendered.objects.of_kind("Job") {
            let pod = job.pod().unwrap();
            // With OnFailure the pod and its log are gone once the retries are used up.
            findings.check(text(pod.spec(), "/restartPolicy") == "Never", || {
                format!("{job} restarts its containers")
            });
        }
    });
}

#[test]
fn nothing_that_needs_a_definition_of_others_is_made_by_default() {
    let builtin = ["v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1"];
    let mut findings = Findings::default();
    for object in &profile("default").objects.0 {
        let api = text(&object.0, "/apiVersion");
        let known = builtin.contains(&api) || api.starts_with("rbac.authorization.k8s.io/");
        findings.check(known, || format!("{object} is of {api}"));
        let kind = object.kind();
        findings.check(!kind.contains("Webhook") && kind != "CustomResourceDefinition", || {
            format!("{object} changes the whole cluster")
        });
    }
    findings.assert_none();
}

#[test]
fn no_container_waits_for_another_one() {
    everywhere(|rendered, findings| {
        for container in rendered.objects.containers() {
            // These make something, and wait for nothing.
            let makes = matches!(container.command_line().as_slice(), ["migrate" | "k6", ..]);
            findings.check(container.runs_along() || makes, || {
                format!("{container} runs before the others: retry in the program instead")
            });
        }
    });
}

#[test]
fn no_secret_is_in_the_release() {
    everywhere(|rendered, findings| {
        for secret in rendered.objects.of_kind("Secret") {
            findings.check(false, || format!("{secret} would be kept in Helm's own records"));
        }
        findings.check(!rendered.text.contains("PRIVATE KEY-----"), || {
            "there is a private key in the rendered text".to_owned()
        });
        for container in rendered.objects.containers() {
            for (name, value) in container.variables() {
                let name = name.to_uppercase();
                let secret =
                    ["PASSWORD", "SECRET", "TOKEN", "KEY"].iter().any(|w| name.contains(w));
                let file = name.ends_with("_FILE") || value.is_empty() || value.starts_with('/');
                findings.check(!secret || file, || format!("{container}: {name} has a value"));
            }
        }
    });
}

#[test]
fn no_database_login_of_a_service_is_a_kubernetes_secret() {
    everywhere(|rendered, findings| {
        if rendered.profile == "ci/kubernetes-secret" {
            return;
        }
        for pod in rendered.objects.pods() {
            let secrets =
                list(pod.spec(), "/volumes").iter().filter(|volume| volume.get("secret").is_some());
            let infrastructure = ["postgres", "kafka", "valkey", "vault", "jaeger", "mailpit"];
            let set_up = ["vault-configure", "kafka-configure", "test"];
            let component = pod.component();
            let may = infrastructure.contains(&component.as_str())
                || set_up.contains(&component.as_str());
            findings
                .check(may || secrets.count() == 0, || format!("{} mounts a Secret", pod.owner));
        }
    });
}
