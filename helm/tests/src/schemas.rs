//! Strict JSON schemas for the kinds that the chart renders, cut out of a cluster's own description
//! of its API.
//!
//! One file for each kind, named as kubeconform looks for it, with everything it refers to. Closed:
//! a field that the API does not know is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

/// Group, version and kind of everything that the chart may render. The kinds of other makers have
/// schemas written by hand, of the fields that the chart uses.
const KINDS: [(&str, &str, &str); 18] = [
    ("", "v1", "ConfigMap"),
    ("", "v1", "Namespace"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("batch", "v1", "CronJob"),
    ("batch", "v1", "Job"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
];

/// The Kubernetes version that the schemas are of.
pub const VERSION: &str = "1.34";

/// Writes the schemas from `openapi`, the document at `/openapi/v2` of an API server, into `directory`.
///
/// # Errors
///
/// When the document is of another version than [`VERSION`], lacks a kind, or a file cannot be written.
pub fn write(openapi: &str, directory: &Path) -> Result<()> {
    let document: Value = serde_json::from_str(openapi).context("the API description")?;
    let version = document.pointer("/info/version").and_then(Value::as_str).unwrap_or_default();
    ensure!(
        version.trim_start_matches('v').starts_with(VERSION),
        "the cluster is of version {version}; the schemas are of {VERSION}"
    );
    let mut definitions = document["definitions"]
        .as_object()
        .cloned()
        .context("no definitions in the description")?;
    definitions.values_mut().for_each(forget_what_the_cluster_writes);
    fs::create_dir_all(directory)?;
    for (group, version, kind) in KINDS {
        let name = find(&definitions, group, version, kind)
            .with_context(|| format!("the cluster does not know {group}/{version} {kind}"))?;
        let path = directory.join(file_name(group, version, kind));
        let text = schema(&definitions, name, group, version, kind)?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The name by which kubeconform looks for a kind: `<kind>-<first part of the group>-<version>.json`, in lower case.
fn file_name(group: &str, version: &str, kind: &str) -> String {
    let group = group.split('.').next().unwrap_or_default();
    let separator = if group.is_empty() { "" } else { "-" };
    format!("{kind}-{group}{separator}{version}.json").to_lowercase()
}

fn find<'a>(
    definitions: &'a Map<String, Value>,
    group: &str,
    version: &str,
    kind: &str,
) -> Option<&'a str> {
    let wanted = json!({"group": group, "version": version, "kind": kind});
    let is_it =
        |definition: &Value| definition["x-kubernetes-group-version-kind"] == json!([wanted]);
    definitions.iter().find(|(_, definition)| is_it(definition)).map(|(name, _)| name.as_str())
}

/// The text of one schema: one line for each definition, so that a change of the API shows as changed lines.
fn schema(
    definitions: &Map<String, Value>,
    root: &str,
    group: &str,
    version: &str,
    kind: &str,
) -> Result<String> {
    let mut reached = BTreeSet::new();
    reach(definitions, root, &mut reached)?;
    let mut closed = BTreeMap::new();
    for name in &reached {
        closed.insert(name.as_str(), close(name, &definitions[name.as_str()]));
    }
    if let Some(object) = closed.get_mut(root) {
        let api = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        object["properties"]["apiVersion"] = json!({"const": api});
        object["properties"]["kind"] = json!({"const": kind});
        object["required"] = json!(["apiVersion", "kind", "metadata"]);
    }
    let lines: Vec<_> = closed
        .iter()
        .map(|(name, definition)| format!("    \"{name}\": {}", sorted(definition)))
        .collect();
    Ok([
        "{",
        "  \"$schema\": \"http://json-schema.org/draft-07/schema#\",",
        &format!("  \"$ref\": \"#/definitions/{root}\","),
        "  \"definitions\": {",
        &lines.join(",\n"),
        "  }",
        "}\n",
    ]
    .join("\n"))
}

/// Takes the fields out that no chart may set.
fn forget_what_the_cluster_writes(definition: &mut Value) {
    let whole_object = definition.get("x-kubernetes-group-version-kind").is_some();
    if let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("managedFields");
        if whole_object {
            properties.remove("status");
        }
    }
}

/// Collects the names of everything that a definition refers to, itself included.
fn reach(
    definitions: &Map<String, Value>,
    name: &str,
    reached: &mut BTreeSet<String>,
) -> Result<()> {
    if !reached.insert(name.to_owned()) {
        return Ok(());
    }
    let definition = definitions.get(name).with_context(|| format!("no definition of {name}"))?;
    let mut references = Vec::new();
    references_of(definition, &mut references);
    references.into_iter().try_for_each(|reference| reach(definitions, &reference, reached))
}

fn references_of(value: &Value, found: &mut Vec<String>) {
    if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        found.extend(reference.strip_prefix("#/definitions/").map(str::to_owned));
    }
    match value {
        Value::Object(map) => map.values().for_each(|value| references_of(value, found)),
        Value::Array(values) => values.iter().for_each(|value| references_of(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// One definition without prose, closed where it lists its fields, and with the two types that JSON schema cannot name.
fn close(name: &str, definition: &Value) -> Value {
    if name.ends_with(".IntOrString") {
        return json!({"type": ["integer", "string"]});
    }
    if name.ends_with(".Quantity") {
        return json!({"type": ["number", "string"]});
    }
    let mut definition = plain(definition);
    if definition.get("properties").is_some() {
        definition["additionalProperties"] = json!(false);
    }
    definition
}

/// What constrains, without what explains. A property may be called `description`: only text under that key is prose.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, value)| !(key.as_str() == "description" && value.is_string()))
            .filter(|(key, _)| !key.starts_with("x-kubernetes-") && *key != "default")
            .map(|(key, value)| (key.clone(), plain(value)))
            .collect(),
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// JSON with sorted keys, whatever order the map of this build keeps.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: BTreeMap<_, _> = map.iter().collect();
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), sorted(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(sorted).collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
