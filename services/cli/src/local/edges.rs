//! Who may call whom, and who writes and reads which topic (`deploy/edges.toml`).

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Context as _;
use figment::{
    Figment,
    providers::{Format as _, Toml},
};
use portolan_messaging::topics;
use serde::Deserialize;

const EDGES: &str = include_str!("../../../../deploy/edges.toml");
/// Who reads all topics, without a group.
const AUDITOR: &str = "audit";

/// All edges.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edges {
    services: BTreeMap<String, Service>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    /// Component to methods.
    #[serde(default)]
    callers: BTreeMap<String, Vec<String>>,
    kafka: Option<Kafka>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kafka {
    produces: Vec<String>,
    consumes: Vec<String>,
    group: String,
}

impl Edges {
    /// # Errors
    /// The file that was built in is not one.
    pub(crate) fn read() -> anyhow::Result<Self> {
        Figment::from(Toml::string(EDGES)).extract().context("deploy/edges.toml")
    }

    /// `[callers]` of a service's configuration.
    pub(crate) fn callers(&self, service: &str) -> String {
        let callers = self.services.get(service).map(|service| &service.callers);
        let mut text = String::from("\n[callers]\n");
        for (caller, methods) in callers.into_iter().flatten() {
            let _infallible = writeln!(text, "{caller} = {}", list(methods));
        }
        text
    }

    /// Every `[[principal]]` of what `portolan kafka-configure` reads.
    pub(crate) fn principals(&self) -> String {
        let services = self.services.iter().filter_map(|(name, service)| {
            let Kafka { produces, consumes, group } = service.kafka.as_ref()?;
            Some(principal(name, produces, consumes, std::slice::from_ref(group)))
        });
        services.chain([principal(AUDITOR, &[], &topics::names(), &[])]).collect()
    }
}

fn principal(name: &str, produce: &[String], consume: &[String], groups: &[String]) -> String {
    format!(
        "\n[[principal]]\nname = \"{name}\"\nproduce = {}\nconsume = {}\ngroups = {}\n",
        list(produce),
        list(consume),
        list(groups),
    )
}

/// A TOML list of strings; JSON's is one.
fn list(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_nobody() {
        let edges = Edges::read().unwrap();
        assert_eq!(edges.callers("gateway"), "\n[callers]\n");
        for service in ["order", "inventory", "payment", "notification"] {
            for method in portolan_messaging::ops::METHODS {
                assert!(edges.callers(service).contains(method), "{service} {method}");
            }
        }
        assert_eq!(edges.callers("psp"), "\n[callers]\npayment = [\"*\"]\n");
        assert!(edges.callers("inventory").contains("seed = [\"portolan.inventory.v1."));
    }

    #[test]
    fn only_those_who_use_kafka_are_its_principals_and_the_auditor_writes_nothing() {
        let principals = Edges::read().unwrap().principals();
        assert_eq!(principals.matches("[[principal]]").count(), 5);
        assert!(!principals.contains("\"psp\"") && !principals.contains("\"gateway\""));
        let (_, auditor) = principals.split_once("name = \"audit\"").unwrap();
        assert!(auditor.starts_with("\nproduce = []\n") && auditor.ends_with("groups = []\n"));
        assert!(auditor.contains("portolan.dlq.payment.v1"));
    }
}
