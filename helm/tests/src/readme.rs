//! The table of values in the chart's README, made from `values.yaml` and its comments.
//!
//! A comment that begins with `# -- ` describes the key below it, in the manner of helm-docs.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_norway::Value;

use crate::{helm::CHART, root};

const BEGIN: &str = "<!-- values:begin -->";
const END: &str = "<!-- values:end -->";

/// A documented value.
#[derive(Clone, Debug)]
pub struct Row {
    /// The keys that lead to it.
    pub path: Vec<String>,
    pub description: String,
    pub default: Value,
}

impl Row {
    fn line(&self) -> String {
        let kind = match &self.default {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_f64() => "float",
            Value::Number(_) => "int",
            Value::String(_) => "string",
            Value::Sequence(_) => "list",
            Value::Mapping(_) | Value::Tagged(_) => "object",
        };
        let cell = |text: &str| text.replace('|', "\\|");
        format!(
            "| `{}` | {kind} | `{}` | {} |",
            self.path.join("."),
            cell(&json(&self.default)),
            cell(&self.description)
        )
    }
}

/// JSON in the order of the file.
fn json(value: &Value) -> String {
    match value {
        Value::Mapping(map) => {
            let entries = map.iter().map(|(key, value)| format!("{}: {}", json(key), json(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Sequence(values) => {
            format!("[{}]", values.iter().map(json).collect::<Vec<_>>().join(", "))
        }
        Value::Tagged(tagged) => json(&tagged.value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            serde_json::to_string(value).unwrap_or_default()
        }
    }
}

fn values() -> PathBuf {
    root().join(CHART).join("values.yaml")
}

/// All described values, in the order of the file.
///
/// # Errors
///
/// When `values.yaml` cannot be read.
pub fn rows() -> Result<Vec<Row>> {
    let text = fs::read_to_string(values())?;
    let tree: Value = serde_norway::from_str(&text)?;
    let (mut path, mut rows) = (Vec::<(usize, String)>::new(), Vec::new());
    let mut description = None::<String>;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if let Some(first) = line.strip_prefix("# -- ") {
            description = Some(first.to_owned());
        } else if let Some(more) = line.strip_prefix("# ") {
            if let Some(description) = &mut description {
                description.push(' ');
                description.push_str(more);
            }
        } else if let Some((key, _)) = line.split_once(':')
            && !key.starts_with(['-', '#', '{', '"'])
        {
            path.retain(|(outer, _)| *outer < indent);
            path.push((indent, key.to_owned()));
            if let Some(description) = description.take() {
                let path: Vec<_> = path.iter().map(|(_, key)| key.clone()).collect();
                let default = at(&tree, &path).with_context(|| path.join("."))?.clone();
                rows.push(Row { path, description, default });
            }
        } else {
            description = None;
        }
    }
    Ok(rows)
}

fn at<'a>(tree: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, key| value.get(key.as_str()))
}

/// The values that nobody describes, neither they nor what they are part of.
///
/// # Errors
///
/// When `values.yaml` cannot be read.
pub fn undescribed() -> Result<Vec<String>> {
    let described: BTreeSet<_> = rows()?.into_iter().map(|row| row.path).collect();
    let tree: Value = serde_norway::from_str(&fs::read_to_string(values())?)?;
    let mut found = Vec::new();
    look(&tree, &mut Vec::new(), &described, &mut found);
    Ok(found)
}

fn look(
    value: &Value,
    path: &mut Vec<String>,
    described: &BTreeSet<Vec<String>>,
    found: &mut Vec<String>,
) {
    if described.contains(path) {
        return;
    }
    let Some(map) = value.as_mapping().filter(|map| !map.is_empty()) else {
        found.push(path.join("."));
        return;
    };
    for (key, value) in map {
        path.push(key.as_str().unwrap_or_default().to_owned());
        look(value, path, described, found);
        path.pop();
    }
}

/// The README as it is, and as it should be.
///
/// # Errors
///
/// When a file cannot be read or the README lacks the marks between which the table stands.
pub fn texts() -> Result<(String, String)> {
    let is = fs::read_to_string(path())?;
    let (before, rest) = is.split_once(BEGIN).context("the README has no mark values:begin")?;
    let (_, after) = rest.split_once(END).context("the README has no mark values:end")?;
    let lines: Vec<_> = rows()?.iter().map(Row::line).collect();
    let table = ["| Key | Type | Default | Description |", "| --- | --- | --- | --- |"].join("\n");
    let should = format!("{before}{BEGIN}\n{table}\n{}\n{END}{after}", lines.join("\n"));
    Ok((is, should))
}

/// Writes the table.
///
/// # Errors
///
/// As [`texts`], and when the README cannot be written.
pub fn write() -> Result<()> {
    let (_, should) = texts()?;
    Ok(fs::write(path(), should)?)
}

fn path() -> PathBuf {
    root().join(CHART).join("README.md")
}
