//! That every pod is hardened, measured and honest about itself.

use std::collections::{BTreeMap, BTreeSet};

use portolan_chart_tests::object::{Container, Object, Pod, list, text};
use serde_json::{Value, json};

use crate::support::{Findings, everywhere};

/// The only volumes that the restricted Pod Security profile knows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

#[test]
fn every_pod_keeps_the_restricted_pod_security_profile() {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods() {
            restricted_pod(&pod.owner.to_string(), pod, findings);
            for container in pod.containers() {
                restricted_container(&container.to_string(), container, findings);
            }
        }
    });
}

fn restricted_pod(place: &str, pod: Pod<'_>, findings: &mut Findings) {
    let spec = pod.spec();
    let context = &spec["securityContext"];
    let mut must = |holds, what: &str| findings.check(holds, || format!("{place}: {what}"));
    must(context["runAsNonRoot"] == json!(true), "runAsNonRoot is not true");
    must(context["runAsUser"].as_u64().is_some_and(|id| id > 0), "runAsUser is not a user's");
    must(context["runAsGroup"].as_u64().is_some_and(|id| id > 0), "runAsGroup is not a group's");
    must(context["fsGroup"].as_u64().is_some_and(|id| id > 0), "fsGroup is missing");
    must(
        text(context, "/seccompProfile/type") == "RuntimeDefault",
        "the seccomp profile is not the runtime's, at the level of the pod",
    );
    for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        must(spec.get(shared).is_none_or(|value| value == false), shared);
    }
    for volume in list(spec, "/volumes") {
        let kinds = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let mut kinds = kinds.filter(|kind| *kind != "name");
        must(kinds.all(|kind| VOLUMES.contains(&kind)), "a volume of a kind that is not allowed");
    }
}

fn restricted_container(place: &str, container: Container<'_>, findings: &mut Findings) {
    let context = &container.value["securityContext"];
    let mut must = |holds, what: &str| findings.check(holds, || format!("{place}: {what}"));
    must(context["allowPrivilegeEscalation"] == json!(false), "it may escalate its privileges");
    must(context["readOnlyRootFilesystem"] == json!(true), "its root file system is writable");
    must(context["capabilities"]["drop"] == json!(["ALL"]), "it keeps capabilities");
    must(context["capabilities"].get("add").is_none(), "it adds capabilities");
    must(context.get("privileged").is_none_or(|value| value == false), "it is privileged");
    must(context.get("runAsUser") != Some(&json!(0)), "it runs as root");
    let ports = list(container.value, "/ports");
    must(ports.iter().all(|port| port.get("hostPort").is_none()), "it takes a port of the node");
}

#[test]
fn only_who_talks_to_the_api_server_has_a_token_for_it() {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods() {
            let off = pod.spec()["automountServiceAccountToken"] == json!(false);
            findings.check(off, || format!("{} mounts the account's token", pod.owner));
            let tokens: Vec<_> = list(pod.spec(), "/volumes")
                .iter()
                .flat_map(|volume| list(volume, "/projected/sources"))
                .filter_map(|source| source.get("serviceAccountToken"))
                .collect();
            let for_the_api = tokens.iter().any(|token| token.get("audience").is_none());
            let may = ["bootstrap", "vault"].contains(&pod.component().as_str());
            findings.check(may || !for_the_api, || {
                format!("{} has a token without an audience", pod.owner)
            });
            let links = pod.spec()["enableServiceLinks"] == json!(false);
            findings.check(links, || format!("{} has service links", pod.owner));
        }
        for account in rendered.objects.of_kind("ServiceAccount") {
            let off = account.0["automountServiceAccountToken"] == json!(false);
            findings.check(off, || format!("{account} hands out its token"));
        }
    });
}

#[test]
fn every_workload_has_a_service_account_of_its_own() {
    everywhere(|rendered, findings| {
        let mut users = BTreeMap::<_, BTreeSet<_>>::new();
        for pod in rendered.objects.pods() {
            users.entry(pod.service_account()).or_default().insert(pod.component());
        }
        for (account, components) in users {
            let exists = rendered.objects.get("ServiceAccount", account).is_some();
            findings
                .check(exists, || format!("{components:?} use `{account}`, which is not there"));
            findings.check(components.len() == 1, || format!("{components:?} share {account}"));
        }
    });
}

#[test]
fn every_container_requests_what_it_needs_and_limits_its_memory_and_not_its_cpu() {
    everywhere(|rendered, findings| {
        for container in rendered.objects.containers() {
            let resources = &container.value["resources"];
            let has = |pointer: &str| resources.pointer(pointer).is_some();
            findings.check(has("/requests/cpu") && has("/requests/memory"), || {
                format!("{container} does not request CPU and memory")
            });
            findings.check(has("/limits/memory"), || format!("{container} has no limit of memory"));
            findings.check(!has("/limits/cpu"), || format!("{container} has its CPU throttled"));
        }
    });
}

#[test]
fn what_is_kept_in_memory_or_scratch_is_bounded() {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods() {
            for volume in list(pod.spec(), "/volumes") {
                let bounded =
                    volume.get("emptyDir").is_none_or(|dir| dir.get("sizeLimit").is_some());
                findings.check(bounded, || {
                    format!("{}: {} has no limit", pod.owner, text(volume, "/name"))
                });
            }
        }
    });
}

#[test]
fn every_mount_has_its_volume_and_every_volume_its_mount() {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods() {
            let claimed = list(&pod.owner.0, "/spec/volumeClaimTemplates").iter();
            let claimed = claimed.map(|claim| text(claim, "/metadata/name"));
            let there = list(pod.spec(), "/volumes").iter().map(|volume| text(volume, "/name"));
            let there: BTreeSet<_> = there.chain(claimed).collect();
            // Vault's webhook mounts it into the container that it adds.
            let injected = "vault.hashicorp.com/agent-service-account-token-volume-name";
            let injected = pod.template["metadata"]["annotations"][injected].as_str();
            let mounted: BTreeSet<_> = pod
                .containers()
                .into_iter()
                .flat_map(|container| list(container.value, "/volumeMounts"))
                .map(|mount| text(mount, "/name"))
                .chain(injected)
                .collect();
            findings.check(there == mounted, || {
                let differ: Vec<_> = there.symmetric_difference(&mounted).collect();
                format!("{}: only volume or only mount: {differ:?}", pod.owner)
            });
        }
    });
}

#[test]
fn no_variable_is_set_twice_and_none_that_would_change_a_load_test() {
    everywhere(|rendered, findings| {
        for container in rendered.objects.containers() {
            let mut seen = BTreeSet::new();
            for (name, _) in container.variables() {
                findings.check(seen.insert(name), || format!("{container} sets {name} twice"));
                findings.check(!name.starts_with("K6_"), || {
                    format!("{container} sets {name}, which discards scenarios")
                });
            }
            findings.check(true, String::new);
        }
    });
}

#[test]
fn every_image_is_pinned_and_pulled_only_when_missing() {
    everywhere(|rendered, findings| {
        for container in rendered.objects.containers() {
            let image = container.image();
            let (name, digest) = image.split_once('@').unwrap_or((image, ""));
            let tag = name.rsplit_once(':').map_or("", |(_, tag)| tag);
            let tag = if tag.contains('/') { "" } else { tag };
            let pinned = digest.starts_with("sha256:") || !(tag.is_empty() || tag == "latest");
            findings.check(pinned, || format!("{container} runs {image}"));
            findings.check(text(container.value, "/imagePullPolicy") == "IfNotPresent", || {
                format!("{container} does not say that a present image is enough")
            });
        }
    });
}

#[test]
fn our_images_are_started_by_their_entry_point() {
    everywhere(|rendered, findings| {
        let ours = rendered.objects.containers().filter(|container| is_ours(*container));
        for container in ours {
            findings.check(container.value.get("command").is_none(), || {
                format!("{container} has a command: the image knows no other program")
            });
        }
    });
}

/// Whether a container runs one of our programs.
pub(crate) fn is_ours(container: Container<'_>) -> bool {
    container.image().contains("/portolan/")
}

/// Whether an object is there to answer, and not to do one thing and end.
pub(crate) fn is_server(object: &Object) -> bool {
    ["Deployment", "StatefulSet"].contains(&object.kind())
}

#[test]
fn our_services_are_probed_on_the_plaintext_admin_port_and_nowhere_else() {
    everywhere(|rendered, findings| {
        let servers = rendered.objects.pods().filter(|pod| is_server(pod.owner));
        let ours = servers.flat_map(Pod::containers).filter(|container| is_ours(*container));
        for container in ours.filter(|container| !container.init) {
            // A program that waits for its database has started: its start is over when it listens.
            for (probe, path) in [
                ("startupProbe", "/livez"),
                ("readinessProbe", "/readyz"),
                ("livenessProbe", "/livez"),
            ] {
                let http = &container.value[probe]["httpGet"];
                let right = text(http, "/path") == path
                    && port_number(container.value, &http["port"]) == Some(9090)
                    && http.get("scheme").is_none_or(|scheme| scheme == "HTTP");
                findings
                    .check(right, || format!("{container}: {probe} does not ask {path} on 9090"));
            }
        }
    });
}

#[test]
fn every_server_is_asked_whether_it_is_ready() {
    everywhere(|rendered, findings| {
        let servers = rendered.objects.pods().filter(|pod| is_server(pod.owner));
        let main = servers.flat_map(Pod::containers).filter(|container| !container.init);
        for container in main {
            findings.check(container.value.get("readinessProbe").is_some(), || {
                format!("{container} has no readiness probe")
            });
        }
    });
}

#[test]
fn every_probe_asks_a_port_that_its_container_declares() {
    everywhere(|rendered, findings| {
        for container in rendered.objects.containers() {
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                for way in ["httpGet", "tcpSocket", "grpc"] {
                    let Some(port) = container.value[probe][way].get("port") else { continue };
                    findings.check(port_number(container.value, port).is_some(), || {
                        format!("{container}: {probe} asks port {port}")
                    });
                }
            }
        }
    });
}

/// The number of a port that a container declares, by number or name.
fn port_number(container: &Value, port: &Value) -> Option<u64> {
    let declared = list(container, "/ports").iter();
    declared
        .filter(|declared| declared["name"] == *port || declared["containerPort"] == *port)
        .find_map(|declared| declared["containerPort"].as_u64())
}

#[test]
fn a_pod_has_the_time_that_its_drain_takes() {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods().filter(|pod| pod.owner.kind() == "Deployment") {
            for container in pod.containers().into_iter().filter(|c| is_ours(*c) && !c.init) {
                let sleep = container.value.pointer("/lifecycle/preStop/sleep/seconds");
                let sleep = sleep.and_then(Value::as_f64).unwrap_or(0.0);
                let waits = sleep > 0.0 || rendered.profile.starts_with("ci/");
                findings.check(waits, || {
                    format!("{container} does not wait for endpoints to notice its end")
                });
                let server = crate::config::of(rendered, container);
                let server = server.as_ref().map_or(&Value::Null, |config| &config["server"]);
                let drain = server["drain_delay_ms"].as_f64().unwrap_or(0.0) / 1000.0;
                let grace = server["grace_secs"].as_f64().unwrap_or(20.0);
                let allowed = pod.spec()["terminationGracePeriodSeconds"].as_f64().unwrap_or(30.0);
                findings.check(allowed >= sleep + drain + grace, || {
                    format!(
                        "{container} is killed after {allowed} s, and may need \
                         {sleep} + {drain} + {grace} s"
                    )
                });
            }
        }
    });
}
