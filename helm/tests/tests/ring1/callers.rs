//! Who may call whom is said in four places: the allow-lists of the services, the roles in Vault, the
//! network policies, and the configuration of who calls. Each is read here from what is rendered,
//! and they must agree.

use std::collections::{BTreeMap, BTreeSet};

use portolan_chart_tests::{
    network::{Network, Port, ports, selects},
    object::{Container, Object, Pod, list, text, texts},
    protos,
};
use serde_json::{Value, json};

use crate::{
    config,
    pods::{is_ours, is_server},
    support::{Rendered, everywhere, profile},
};

/// The package that every consumer serves.
const OPS: &str = "portolan.ops.v1.";

/// Caller, called, and the name of the port.
type Edge = (String, String, String);

/// The containers of our own services.
fn services(rendered: &Rendered) -> impl Iterator<Item = Container<'_>> {
    let servers = rendered.objects.pods().filter(|pod| is_server(pod.owner));
    servers.flat_map(Pod::containers).filter(|container| is_ours(*container) && !container.init)
}

/// The allow-list of a service: methods by caller.
fn allowed(rendered: &Rendered, service: Container<'_>) -> BTreeMap<String, Vec<String>> {
    let config = config::of(rendered, service).unwrap_or_default();
    let callers = config["callers"].as_object().cloned().unwrap_or_default();
    let methods = |methods: &Value| {
        let methods = methods.as_array().into_iter().flatten();
        methods.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    callers.iter().map(|(caller, list)| (caller.clone(), methods(list))).collect()
}

/// The port on which a service has itself called by others of the installation, if it does.
fn mesh_port(service: Container<'_>) -> Option<Port> {
    ports(service.pod).into_iter().find(|port| ["grpc", "https"].contains(&port.name.as_str()))
}

/// The edges that the allow-lists of the services permit.
fn permitted(rendered: &Rendered) -> BTreeSet<Edge> {
    let mut edges = BTreeSet::new();
    for service in services(rendered) {
        let Some(port) = mesh_port(service) else { continue };
        for caller in allowed(rendered, service).into_keys() {
            edges.insert((caller, service.pod.component(), port.name.clone()));
        }
    }
    edges
}

/// The edges that the network policies let through, between pods of different components.
fn passable(rendered: &Rendered) -> BTreeSet<Edge> {
    let network = Network::of(&rendered.objects);
    let mut edges = BTreeSet::new();
    for from in rendered.objects.pods() {
        for to in rendered.objects.pods() {
            for port in ports(to) {
                let itself = from.component() == to.component();
                if !itself && network.allows(&from.labels(), &to.labels(), &port) {
                    edges.insert((from.component(), to.component(), port.name));
                }
            }
        }
    }
    edges
}

fn has_policies(rendered: &Rendered) -> bool {
    rendered.objects.of_kind("NetworkPolicy").next().is_some()
}

#[test]
fn the_network_lets_exactly_those_call_a_service_whom_its_allow_list_names() {
    everywhere(|rendered, findings| {
        if !has_policies(rendered) {
            return;
        }
        let meshed: BTreeSet<_> = services(rendered)
            .filter_map(|service| Some((service.pod.component(), mesh_port(service)?.name)))
            .collect();
        let passable: BTreeSet<Edge> = passable(rendered)
            .into_iter()
            .filter(|(_, to, port)| meshed.contains(&(to.clone(), port.clone())))
            .collect();
        let permitted = permitted(rendered);
        for (from, to, _) in permitted.difference(&passable) {
            findings.check(false, || format!("{to} allows {from}, whom the network stops"));
        }
        for (from, to, _) in passable.difference(&permitted) {
            findings.check(false, || format!("the network lets {from} to {to}, which refuses it"));
        }
        findings.check(!permitted.is_empty(), || "nobody may call anybody".to_owned());
    });
}

#[test]
fn an_allow_list_names_methods_that_the_service_has_and_callers_that_are_there() {
    let methods = protos::methods().unwrap();
    assert!(methods.contains("portolan.order.v1.OrderService/PlaceOrder"), "{methods:?}");
    everywhere(|rendered, findings| {
        let there: BTreeSet<_> = rendered.objects.pods().map(Pod::component).collect();
        for service in services(rendered) {
            for (caller, list) in allowed(rendered, service) {
                findings.check(there.contains(&caller), || {
                    format!("{service}: its caller {caller} is not installed")
                });
                findings
                    .check(!list.is_empty(), || format!("{service}: {caller} may call nothing"));
                for method in list {
                    // Whoever consumes also serves what operators do about its dead letters.
                    let own = [format!("portolan.{}.v1.", service.pod.component()), OPS.to_owned()];
                    let grpc = mesh_port(service).is_some_and(|port| port.name == "grpc");
                    let known = if grpc {
                        own.iter().any(|own| method.starts_with(own)) && methods.contains(&method)
                    } else {
                        method == "*"
                    };
                    findings.check(known, || format!("{service}: {caller} may call {method}"));
                }
            }
        }
    });
}

#[test]
fn every_method_that_changes_something_is_allowed_to_somebody_by_name() {
    let rendered = profile("default");
    let lists: Vec<_> = services(rendered).map(|service| allowed(rendered, service)).collect();
    let granted: BTreeSet<_> = lists.iter().flat_map(BTreeMap::values).flatten().collect();
    for method in ["order.v1.OrderService/PlaceOrder", "inventory.v1.InventoryService/Quote"] {
        let method = format!("portolan.{method}");
        assert!(granted.contains(&method), "nobody may call {method}: {granted:?}");
    }
}

/// The file of the Job that configures Vault.
fn vault_setup(rendered: &Rendered) -> Option<Value> {
    let mut pods = rendered.objects.pods().filter(|pod| pod.component() == "vault-configure");
    let container = pods.next()?.containers().into_iter().find(|container| !container.init)?;
    config::of(rendered, container)
}

/// The pods that log in to Vault with an agent, by the name of their role there.
fn agents(rendered: &Rendered) -> BTreeMap<String, Pod<'_>> {
    let with_agent = rendered.objects.pods().filter_map(|pod| {
        let files = crate::agents::configurations(rendered, pod);
        files.first().map(|file| (crate::agents::pki_role(file), pod))
    });
    with_agent.collect()
}

#[test]
fn vault_knows_exactly_those_who_log_in_with_the_account_and_the_names_that_they_have() {
    everywhere(|rendered, findings| {
        let Some(setup) = vault_setup(rendered) else { return };
        let roles: BTreeMap<_, _> = list(&setup, "/workload")
            .iter()
            .map(|workload| (text(workload, "/name").to_owned(), workload))
            .collect();
        let agents = agents(rendered);
        if !agents.is_empty() {
            let (known, used): (BTreeSet<_>, BTreeSet<_>) =
                (roles.keys().collect(), agents.keys().collect());
            findings.check(known == used, || {
                let differ: Vec<_> = known.symmetric_difference(&used).collect();
                format!("only in Vault's setup or only among the agents: {differ:?}")
            });
        }
        for (role, pod) in &agents {
            let Some(workload) = roles.get(role) else { continue };
            findings.check(text(workload, "/service_account") == pod.service_account(), || {
                format!("{}: Vault expects another ServiceAccount", pod.owner)
            });
            let names: BTreeSet<_> =
                list(workload, "/dns").iter().filter_map(Value::as_str).collect();
            let asked = crate::agents::configurations(rendered, *pod);
            for name in asked.iter().flat_map(|file| crate::agents::dns_names(file)) {
                findings.check(names.contains(name.as_str()), || {
                    format!("{}: asks for the name {name}, which Vault refuses", pod.owner)
                });
            }
        }
    });
}

#[test]
fn who_calls_and_who_is_called_has_an_identity() {
    everywhere(|rendered, findings| {
        let Some(setup) = vault_setup(rendered) else { return };
        let prefix = match rendered.install.release.as_str() {
            "portolan" => String::new(),
            release => format!("{release}-"),
        };
        let known: BTreeSet<_> =
            list(&setup, "/workload").iter().map(|workload| text(workload, "/name")).collect();
        for (from, to, _) in permitted(rendered) {
            for component in [from, to] {
                let name = format!("{prefix}{component}");
                findings.check(known.contains(name.as_str()), || {
                    format!("{name} calls or is called and has no role in Vault")
                });
            }
        }
    });
}

/// The Service and the port that a text like `https://order.shop.svc:8443` or `kafka-0.kafka:9092`
/// means, if it means one of this release.
fn meant<'a>(rendered: &'a Rendered, word: &str) -> Option<(&'a Object, u64)> {
    let (host, port) = word.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let mut labels = host.split('.');
    let (first, second) = (labels.next()?, labels.next().unwrap_or_default());
    let pods_own = first.rsplit_once('-').is_some_and(|(set, number)| {
        set == second && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let name = if pods_own { second } else { first };
    Some((rendered.objects.get("Service", name)?, port))
}

/// Everything that a pod is told in words: arguments, variables and the files from a `ConfigMap`.
/// A migration reads its service's file, and nothing in it but the database.
fn told(rendered: &Rendered, pod: Pod<'_>) -> String {
    let mut words = Vec::new();
    let migration =
        pod.containers().into_iter().find(|c| c.command_line() == ["migrate"] && !c.init);
    if let Some(migration) = migration {
        let config = config::of(rendered, migration).unwrap_or_default();
        let vault = crate::agents::configurations(rendered, pod).join(" ");
        return format!("{} {vault}", text(&config, "/database/url"));
    }
    for container in pod.containers() {
        words.extend(container.command_line());
        words.extend(container.variables().into_iter().map(|(_, value)| value));
    }
    let mut text = words.join(" ");
    for volume in list(pod.spec(), "/volumes") {
        for map in portolan_chart_tests::object::config_maps_of(volume) {
            let map = rendered.objects.get("ConfigMap", self::text(map, "/name"));
            for file in map.map(|map| texts(&map.0, "/data")).unwrap_or_default().values() {
                text.push(' ');
                text.push_str(file);
            }
        }
    }
    text
}

/// The edges to which a pod's configuration refers.
fn referred(rendered: &Rendered) -> BTreeSet<Edge> {
    let mut edges = BTreeSet::new();
    for pod in rendered.objects.pods() {
        let text = told(rendered, pod);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || ".-:".contains(letter);
        for word in text.split(|letter: char| !is_part(letter)) {
            let Some((service, port)) = meant(rendered, word) else { continue };
            let selector = json!({ "matchLabels": texts(&service.0, "/spec/selector") });
            for to in rendered.objects.pods().filter(|to| selects(&selector, &to.labels())) {
                let port = list(&service.0, "/spec/ports")
                    .iter()
                    .find(|candidate| candidate["port"].as_u64() == Some(port))
                    .and_then(|candidate| {
                        let target = candidate.get("targetPort").unwrap_or(&candidate["port"]);
                        ports(to).into_iter().find(|port| {
                            target.as_str() == Some(&port.name)
                                || target.as_u64() == Some(port.number)
                        })
                    });
                if let Some(port) = port
                    && pod.component() != to.component()
                {
                    edges.insert((pod.component(), to.component(), port.name));
                }
            }
        }
    }
    edges
}

#[test]
fn the_network_lets_everybody_reach_what_their_configuration_names_and_nothing_else() {
    // Vault's database engine is told of PostgreSQL by the Job that configures it.
    let by_others = [("vault", "postgres", "pg"), ("vault-configure", "postgres", "pg")];
    everywhere(|rendered, findings| {
        if !has_policies(rendered) {
            return;
        }
        let referred = referred(rendered);
        let passable = passable(rendered);
        for (from, to, port) in referred.difference(&passable) {
            findings.check(false, || {
                format!("the configuration of {from} names {to}:{port}, and the network stops it")
            });
        }
        for (from, to, port) in passable.difference(&referred) {
            let open_to_all = to == "gateway" && port == "http";
            let edge = (from.as_str(), to.as_str(), port.as_str());
            findings.check(open_to_all || by_others.contains(&edge), || {
                format!(
                    "the network lets {from} to {to}:{port}, which its configuration never names"
                )
            });
        }
        findings.check(!referred.is_empty(), || "no configuration names anything".to_owned());
    });
}

#[test]
fn kafka_knows_exactly_those_who_connect_to_it() {
    everywhere(|rendered, findings| {
        let mut pods = rendered.objects.pods().filter(|pod| pod.component() == "kafka-configure");
        let Some(job) = pods.next() else { return };
        let container = job.containers().into_iter().find(|container| !container.init).unwrap();
        let setup = config::of(rendered, container).unwrap_or_default();
        let known: BTreeSet<_> =
            list(&setup, "/principal").iter().map(|principal| text(principal, "/name")).collect();
        // Whoever has a section [kafka] in their own file, under the name of their account.
        let connecting: BTreeSet<_> = rendered
            .objects
            .containers()
            .filter(|container| {
                let config = config::of(rendered, *container).unwrap_or_default();
                is_ours(*container)
                    && config.get("kafka").is_some()
                    && container.pod.component() != "kafka-configure"
                    && container.command_line() != ["migrate"]
            })
            .map(|container| container.pod.service_account())
            .collect();
        findings.check(known == connecting, || {
            let differ: Vec<_> = known.symmetric_difference(&connecting).collect();
            format!("only among Kafka's principals or only among its clients: {differ:?}")
        });
        let topics: BTreeSet<_> = topics(&setup);
        for principal in list(&setup, "/principal") {
            let used = list(principal, "/produce").iter().chain(list(principal, "/consume"));
            for topic in used.filter_map(Value::as_str) {
                findings.check(topics.contains(topic), || {
                    format!(
                        "{} uses the topic {topic}, which nobody makes",
                        text(principal, "/name")
                    )
                });
            }
        }
    });
}

/// The topics that the Job makes: their names, whatever else is said of them.
fn topics(setup: &Value) -> BTreeSet<&str> {
    ["/topics", "/topic"]
        .iter()
        .flat_map(|pointer| list(setup, pointer))
        .filter_map(|topic| topic.as_str().or_else(|| topic["name"].as_str()))
        .collect()
}
