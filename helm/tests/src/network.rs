//! What the network policies of a release let through between its own pods.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::{Object, Objects, Pod, list, text, texts};

/// Labels of a pod.
pub type Labels = BTreeMap<String, String>;

/// A port that a pod listens on.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Port {
    pub name: String,
    pub number: u64,
}

/// Whether a `LabelSelector` selects a pod; the empty one selects all.
#[must_use]
pub fn selects(selector: &Value, labels: &Labels) -> bool {
    let all =
        texts(selector, "/matchLabels").iter().all(|(name, value)| labels.get(name) == Some(value));
    all && list(selector, "/matchExpressions").iter().all(|expression| {
        let value = labels.get(text(expression, "/key"));
        let among = list(expression, "/values")
            .iter()
            .any(|candidate| candidate.as_str() == value.map(String::as_str));
        match text(expression, "/operator") {
            "In" => value.is_some() && among,
            "NotIn" => !among,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    })
}

/// The ports that a pod's containers declare.
#[must_use]
pub fn ports(pod: Pod<'_>) -> Vec<Port> {
    let declared =
        pod.containers().into_iter().flat_map(|container| list(container.value, "/ports"));
    declared
        .map(|port| Port {
            name: text(port, "/name").to_owned(),
            number: port["containerPort"].as_u64().unwrap_or_default(),
        })
        .collect()
}

/// The policies of a release.
#[derive(Debug)]
pub struct Network<'a> {
    policies: Vec<&'a Object>,
}

impl<'a> Network<'a> {
    #[must_use]
    pub fn of(objects: &'a Objects) -> Self {
        Self { policies: objects.of_kind("NetworkPolicy").collect() }
    }

    /// The rules for one direction, `Ingress` or `Egress`, that apply to a pod; none if no policy
    /// is about that pod and direction, which leaves everything open.
    #[must_use]
    pub fn rules(&self, direction: &str, pod: &Labels) -> Option<Vec<&'a Value>> {
        let mut applying = self
            .policies
            .iter()
            .filter(|policy| {
                list(&policy.0, "/spec/policyTypes").iter().any(|kind| kind == direction)
            })
            .filter(|policy| selects(&policy.0["spec"]["podSelector"], pod))
            .peekable();
        applying.peek()?;
        let pointer = format!("/spec/{}", direction.to_lowercase());
        Some(applying.flat_map(|policy| list(&policy.0, &pointer)).collect())
    }

    /// Whether a pod of the release reaches another one at a port: both have to be let.
    #[must_use]
    pub fn allows(&self, from: &Labels, to: &Labels, port: &Port) -> bool {
        self.half("Egress", from, to, port) && self.half("Ingress", to, from, port)
    }

    /// One half of that: whether the policies about `subject` let it talk with `peer`.
    #[must_use]
    pub fn half(&self, direction: &str, subject: &Labels, peer: &Labels, port: &Port) -> bool {
        let peers = if direction == "Ingress" { "/from" } else { "/to" };
        self.rules(direction, subject).is_none_or(|rules| {
            rules.iter().any(|rule| {
                let ports = list(rule, "/ports");
                let peers = list(rule, peers);
                (ports.is_empty() || ports.iter().any(|allowed| is_port(allowed, port)))
                    && (peers.is_empty() || peers.iter().any(|allowed| is_peer(allowed, peer)))
            })
        })
    }
}

fn is_port(allowed: &Value, port: &Port) -> bool {
    let protocol = text(allowed, "/protocol");
    let tcp = protocol.is_empty() || protocol == "TCP";
    let same = match &allowed["port"] {
        Value::String(name) => *name == port.name,
        Value::Number(number) => number.as_u64() == Some(port.number),
        Value::Null => true,
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    tcp && same
}

/// A peer in the same namespace. One in another namespace, or an address, is not a pod of ours.
fn is_peer(allowed: &Value, labels: &Labels) -> bool {
    let anywhere = allowed
        .get("namespaceSelector")
        .is_none_or(|selector| selector.as_object().is_some_and(serde_json::Map::is_empty));
    let no_address = allowed.get("ipBlock").is_none();
    let pods = allowed.get("podSelector");
    anywhere && no_address && pods.is_none_or(|selector| selects(selector, labels))
}
