//! What a chart renders, as objects that can be asked.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result};
use serde::Deserialize as _;
use serde_json::Value;

/// The text at a JSON pointer; empty if there is none.
#[must_use]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer; empty if there is none.
#[must_use]
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The map of texts at a JSON pointer; empty if there is none.
#[must_use]
pub fn texts(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// One object.
#[derive(Clone, Debug)]
pub struct Object(pub Value);

impl Object {
    #[must_use]
    pub fn kind(&self) -> &str {
        text(&self.0, "/kind")
    }

    #[must_use]
    pub fn name(&self) -> &str {
        text(&self.0, "/metadata/name")
    }

    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        texts(&self.0, "/metadata/labels")
    }

    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.0["metadata"]["annotations"].get(name)?.as_str()
    }

    /// The label that says which part of the shop it belongs to.
    #[must_use]
    pub fn component(&self) -> &str {
        self.0["metadata"]["labels"]
            .get("app.kubernetes.io/component")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The moments at which Helm makes it apart from the rest: `pre-install`, `test`.
    #[must_use]
    pub fn hooks(&self) -> Vec<&str> {
        self.annotation("helm.sh/hook")
            .map(|hooks| hooks.split(',').map(str::trim).collect())
            .unwrap_or_default()
    }

    /// The order among hooks.
    #[must_use]
    pub fn hook_weight(&self) -> i64 {
        self.annotation("helm.sh/hook-weight").and_then(|weight| weight.parse().ok()).unwrap_or(0)
    }

    /// The pods that it makes.
    #[must_use]
    pub fn pod(&self) -> Option<Pod<'_>> {
        let template = match self.kind() {
            "Deployment" | "StatefulSet" | "Job" => self.0.pointer("/spec/template"),
            "CronJob" => self.0.pointer("/spec/jobTemplate/spec/template"),
            "Pod" => Some(&self.0),
            _ => None,
        }?;
        Some(Pod { owner: self, template })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// The template of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    pub owner: &'a Object,
    pub template: &'a Value,
}

impl<'a> Pod<'a> {
    #[must_use]
    pub fn spec(self) -> &'a Value {
        &self.template["spec"]
    }

    #[must_use]
    pub fn labels(self) -> BTreeMap<String, String> {
        texts(self.template, "/metadata/labels")
    }

    #[must_use]
    pub fn component(self) -> String {
        self.labels().remove("app.kubernetes.io/component").unwrap_or_default()
    }

    #[must_use]
    pub fn service_account(self) -> &'a str {
        text(self.spec(), "/serviceAccountName")
    }

    /// All containers, those that run before the others first.
    #[must_use]
    pub fn containers(self) -> Vec<Container<'a>> {
        let of = |pointer: &str, init: bool| {
            let pod = self;
            list(self.spec(), pointer).iter().map(move |value| Container { pod, value, init })
        };
        of("/initContainers", true).chain(of("/containers", false)).collect()
    }

    /// Those that run as long as the pod does.
    #[must_use]
    pub fn running(self) -> Vec<Container<'a>> {
        self.containers().into_iter().filter(|container| container.runs_along()).collect()
    }

    /// The volume of a name.
    #[must_use]
    pub fn volume(self, name: &str) -> Option<&'a Value> {
        list(self.spec(), "/volumes").iter().find(|volume| text(volume, "/name") == name)
    }
}

/// One container of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    pub pod: Pod<'a>,
    pub value: &'a Value,
    /// Whether it stands among the `initContainers`.
    pub init: bool,
}

impl<'a> Container<'a> {
    #[must_use]
    pub fn name(self) -> &'a str {
        text(self.value, "/name")
    }

    #[must_use]
    pub fn image(self) -> &'a str {
        text(self.value, "/image")
    }

    /// Whether it runs as long as the pod: a native sidecar does.
    #[must_use]
    pub fn runs_along(self) -> bool {
        !self.init || text(self.value, "/restartPolicy") == "Always"
    }

    /// Its variables, in their order.
    #[must_use]
    pub fn variables(self) -> Vec<(&'a str, &'a str)> {
        list(self.value, "/env")
            .iter()
            .map(|variable| (text(variable, "/name"), text(variable, "/value")))
            .collect()
    }

    #[must_use]
    pub fn variable(self, name: &str) -> Option<&'a str> {
        self.variables().into_iter().find(|(variable, _)| *variable == name).map(|(_, value)| value)
    }

    /// The arguments and, before them, the command.
    #[must_use]
    pub fn command_line(self) -> Vec<&'a str> {
        let of = |pointer: &str| list(self.value, pointer).iter().filter_map(Value::as_str);
        of("/command").chain(of("/args")).collect()
    }

    /// The volume that a file of the container is on, and the file's path in it.
    #[must_use]
    pub fn volume_of(self, path: &str) -> Option<(&'a Value, String)> {
        let mounts = list(self.value, "/volumeMounts").iter();
        let (mount, rest) = mounts
            .filter_map(|mount| {
                let rest = path.strip_prefix(text(mount, "/mountPath").trim_end_matches('/'))?;
                (rest.is_empty() || rest.starts_with('/')).then(|| (mount, rest.trim_matches('/')))
            })
            .min_by_key(|(_, rest)| rest.len())?;
        let sub = text(mount, "/subPath");
        let separator = if sub.is_empty() || rest.is_empty() { "" } else { "/" };
        Some((self.pod.volume(text(mount, "/name"))?, format!("{sub}{separator}{rest}")))
    }
}

impl fmt::Display for Container<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, container {}", self.pod.owner, self.name())
    }
}

/// Everything that one installation renders.
#[derive(Clone, Debug)]
pub struct Objects(pub Vec<Object>);

impl Objects {
    /// Reads rendered YAML. A key that stands twice in one map is an error.
    ///
    /// # Errors
    ///
    /// When it is not YAML.
    pub fn parse(text: &str) -> Result<Self> {
        let mut objects = Vec::new();
        for document in serde_norway::Deserializer::from_str(text) {
            // By way of YAML's own value, because JSON's takes the last of two equal keys.
            let value = serde_norway::Value::deserialize(document)
                .with_context(|| format!("document {}", objects.len() + 1))?;
            if !value.is_null() {
                objects.push(Object(serde_json::to_value(value)?));
            }
        }
        Ok(Self(objects))
    }

    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object> {
        self.0.iter().filter(move |object| object.kind() == kind)
    }

    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Option<&Object> {
        self.of_kind(kind).find(|object| object.name() == name)
    }

    /// Every template of a pod.
    pub fn pods(&self) -> impl Iterator<Item = Pod<'_>> {
        self.0.iter().filter_map(Object::pod)
    }

    /// Every container of every pod.
    pub fn containers(&self) -> impl Iterator<Item = Container<'_>> {
        self.pods().flat_map(Pod::containers)
    }

    /// What a container reads from a file, if that comes from a `ConfigMap` of
    /// the chart.
    #[must_use]
    pub fn file(&self, container: Container<'_>, path: &str) -> Option<&str> {
        let (volume, shown) = container.volume_of(path)?;
        config_maps_of(volume).into_iter().find_map(|source| {
            let map = self.get("ConfigMap", text(source, "/name"))?;
            let renamed = list(source, "/items").iter().find(|item| text(item, "/path") == shown);
            map.0["data"].get(renamed.map_or(shown.as_str(), |item| text(item, "/key")))?.as_str()
        })
    }
}

/// The sources of a volume that are a `ConfigMap`, also as parts of a projected one.
#[must_use]
pub fn config_maps_of(volume: &Value) -> Vec<&Value> {
    let projected = list(volume, "/projected/sources");
    std::iter::once(volume).chain(projected).filter_map(|source| source.get("configMap")).collect()
}
