//! That everything that is called is listened on, and is let through.

use portolan_chart_tests::{
    network::{Labels, Network, ports, selects},
    object::{list, text, texts},
};
use serde_json::{Value, json};

use crate::support::everywhere;

#[test]
fn every_port_of_a_service_is_listened_on_by_every_pod_behind_it() {
    everywhere(|rendered, findings| {
        for service in rendered.objects.of_kind("Service") {
            let selector = texts(&service.0, "/spec/selector");
            let selector = json!({ "matchLabels": selector });
            let behind: Vec<_> =
                rendered.objects.pods().filter(|pod| selects(&selector, &pod.labels())).collect();
            findings.check(!behind.is_empty(), || format!("there is no pod behind {service}"));
            for port in list(&service.0, "/spec/ports") {
                let target = port.get("targetPort").unwrap_or(&port["port"]);
                for pod in &behind {
                    let listened = ports(*pod).iter().any(|port| {
                        target.as_str() == Some(&port.name) || target.as_u64() == Some(port.number)
                    });
                    findings.check(listened, || {
                        format!("{} does not listen on {target} of {service}", pod.owner)
                    });
                }
            }
        }
    });
}

#[test]
fn services_that_speak_grpc_are_headless_so_that_clients_see_every_pod() {
    everywhere(|rendered, findings| {
        for service in rendered.objects.of_kind("Service") {
            let grpc =
                list(&service.0, "/spec/ports").iter().any(|port| text(port, "/name") == "grpc");
            findings.check(!grpc || text(&service.0, "/spec/clusterIP") == "None", || {
                format!("{service} would pin each client to one pod")
            });
        }
    });
}

#[test]
fn every_port_that_a_network_policy_names_exists_in_the_pods_that_it_selects() {
    everywhere(|rendered, findings| {
        let pods: Vec<_> = rendered.objects.pods().collect();
        for policy in rendered.objects.of_kind("NetworkPolicy") {
            let subject = &policy.0["spec"]["podSelector"];
            let subjects: Vec<_> =
                pods.iter().copied().filter(|pod| selects(subject, &pod.labels())).collect();
            findings.check(!subjects.is_empty() || pods.is_empty(), || {
                format!("{policy} is about no pod")
            });
            for rule in list(&policy.0, "/spec/ingress") {
                for port in list(rule, "/ports") {
                    let exists = subjects.iter().flat_map(|pod| ports(*pod)).any(|declared| {
                        port["port"].as_str() == Some(&declared.name)
                            || port["port"].as_u64() == Some(declared.number)
                    });
                    findings.check(exists, || {
                        format!("{policy} lets in at {}, where nothing listens", port["port"])
                    });
                }
            }
        }
    });
}

#[test]
fn everything_that_is_not_needed_is_denied_in_both_directions() {
    everywhere(|rendered, findings| {
        if rendered.objects.of_kind("NetworkPolicy").next().is_none() {
            return;
        }
        let network = Network::of(&rendered.objects);
        // A pod of the release that no policy is for: it may ask for names and nothing else.
        let name = rendered.objects.0[0].labels()["app.kubernetes.io/name"].clone();
        let instance = rendered.install.release.clone();
        let stranger = Labels::from([
            ("app.kubernetes.io/name".to_owned(), name),
            ("app.kubernetes.io/instance".to_owned(), instance),
        ]);
        for direction in ["Ingress", "Egress"] {
            let rules = network.rules(direction, &stranger);
            let ports = |rule| list(rule, "/ports").iter().all(|port| port["port"] == json!(53));
            findings.check(rules.is_some_and(|rules| rules.into_iter().all(ports)), || {
                format!("a pod that nobody knows is not denied {direction}")
            });
            for pod in rendered.objects.pods() {
                let rules = network.rules(direction, &pod.labels()).unwrap_or_default();
                for rule in rules {
                    let addresses = [list(rule, "/to"), list(rule, "/from")].concat();
                    let named = !addresses.is_empty()
                        && addresses.iter().all(|peer| peer.get("ipBlock").is_some());
                    findings.check(named || !list(rule, "/ports").is_empty(), || {
                        format!("{} has {direction} at any port", pod.owner)
                    });
                }
            }
        }
    });
}

#[test]
fn every_pod_may_ask_the_cluster_for_names() {
    everywhere(|rendered, findings| {
        if rendered.objects.of_kind("NetworkPolicy").next().is_none() {
            return;
        }
        let network = Network::of(&rendered.objects);
        for pod in rendered.objects.pods() {
            let rules = network.rules("Egress", &pod.labels()).unwrap_or_default();
            for protocol in ["UDP", "TCP"] {
                let asks = rules
                    .iter()
                    .flat_map(|rule| list(rule, "/ports"))
                    .any(|port| port["port"] == json!(53) && text(port, "/protocol") == protocol);
                findings
                    .check(asks, || format!("{} cannot ask for names over {protocol}", pod.owner));
            }
        }
    });
}

#[test]
fn who_talks_to_the_api_server_may_reach_it() {
    everywhere(|rendered, findings| {
        if rendered.objects.of_kind("NetworkPolicy").next().is_none() {
            return;
        }
        let network = Network::of(&rendered.objects);
        for pod in rendered.objects.pods() {
            let talks = list(pod.spec(), "/volumes")
                .iter()
                .flat_map(|volume| list(volume, "/projected/sources"))
                .filter_map(|source| source.get("serviceAccountToken"))
                .any(|token| token.get("audience").is_none());
            if !talks {
                continue;
            }
            let rules = network.rules("Egress", &pod.labels()).unwrap_or_default();
            let reaches = rules.iter().any(|rule| {
                // The address behind the Service belongs to the host, which no selector of pods finds.
                let addresses = list(rule, "/to");
                let by_address = addresses.is_empty()
                    || addresses.iter().any(|peer| peer.get("ipBlock").is_some());
                let ports = list(rule, "/ports");
                let there = |port: &Value| port["port"] == json!(6443);
                by_address && (ports.is_empty() || ports.iter().any(there))
            });
            findings.check(reaches, || format!("{} cannot reach the API server", pod.owner));
        }
    });
}
