//! What stands beside the chart and must agree with it.

use std::{fs, path::Path};

use portolan_chart_tests::{
    goldens,
    helm::{CHART, Install},
    readme, root,
};
use serde_json::Value;

use crate::support::{Findings, profile};

#[test]
fn every_value_is_described() {
    assert_eq!(readme::undescribed().unwrap(), Vec::<String>::new());
    assert!(readme::rows().unwrap().len() > 100);
}

#[test]
fn the_readmes_table_of_values_is_up_to_date() {
    let (is, should) = readme::texts().unwrap();
    assert!(is == should, "run `make chart-readme`");
}

#[test]
fn the_kept_renderings_are_up_to_date() {
    for name in goldens::KEPT {
        let kept = fs::read_to_string(goldens::path(name)).unwrap_or_default();
        let rendered = goldens::tidy(&profile(name).text);
        let differs = kept.lines().zip(rendered.lines()).position(|(kept, now)| kept != now);
        assert!(
            kept == rendered,
            "helm/examples/{name} differs from line {}: run `make chart-goldens` and look at the change",
            differs.map_or(0, |line| line + 1)
        );
    }
}

#[test]
fn the_notes_are_short_and_say_what_comes_first() {
    for release in ["portolan", "blue"] {
        let notes = Install::default().release(release).notes().unwrap();
        assert!(notes.lines().count() < 25, "{} lines:\n{notes}", notes.lines().count());
        for words in ["port-forward", "token", "delete"] {
            assert!(notes.contains(words), "the notes do not say `{words}`:\n{notes}");
        }
        assert!(notes.lines().all(|line| line.len() <= 160), "{notes}");
    }
}

fn values_schema() -> Value {
    let text = fs::read_to_string(root().join(CHART).join("values.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Visits every schema within a schema.
fn visit(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    look(path, schema);
    let inner: Vec<(String, &Value)> = match schema {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(values) => {
            values.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, value) in inner {
        visit(value, &format!("{path}/{key}"), look);
    }
}

#[test]
fn the_schema_of_the_values_needs_nothing_from_elsewhere() {
    let mut references = 0;
    visit(&values_schema(), "", &mut |path, schema| {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            references += 1;
            assert!(reference.starts_with("#/"), "{path} refers to {reference}");
        }
    });
    assert!(references > 0);
}

#[test]
fn the_schema_of_the_values_is_closed_throughout() {
    let mut findings = Findings::default();
    visit(&values_schema(), "", &mut |path, schema| {
        let lists_fields = schema.get("properties").is_some_and(|fields| {
            fields.as_object().is_some_and(|fields| fields.values().all(Value::is_object))
        });
        // A condition about an object that another schema describes lists some of its fields only.
        let condition = ["/if", "/then", "/else", "/not", "/oneOf/", "/anyOf/", "/allOf/"]
            .iter()
            .any(|part| path.contains(part));
        let is_object = schema.get("type").is_some_and(|kind| kind == "object");
        if is_object || (lists_fields && !condition) {
            let closed = schema.get("additionalProperties").is_some_and(|more| more != true);
            findings.check(closed, || format!("{path} takes anything"));
        }
    });
    findings.assert_none();
}

#[test]
fn the_versions_of_chart_workspace_and_image_tags_are_one() {
    let version = |file: &str, start: &str| {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
        line.trim().trim_matches('"').to_owned()
    };
    let workspace = version("Cargo.toml", "version = ");
    assert_eq!(workspace, version("helm/portolan/Chart.yaml", "version:"));
    assert_eq!(workspace, version("helm/portolan/Chart.yaml", "appVersion:"));
}

#[test]
fn the_images_are_compiled_with_the_workspaces_compiler() {
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
    let from = format!("FROM rust:{}-bookworm AS binaries", channel.trim_matches('"'));
    assert!(dockerfile.contains(&from), "deploy/Dockerfile does not begin `{from}`");
}

#[test]
fn every_image_of_ours_is_one_that_is_built() {
    let script = fs::read_to_string(root().join("scripts/images")).unwrap();
    let mut findings = Findings::default();
    for container in profile("default").objects.containers() {
        let Some(name) = container.image().strip_prefix("ghcr.io/portolan/") else { continue };
        let name = name.split(':').next().unwrap_or_default();
        findings.check(script.contains(&format!("\n    {name})")), || {
            format!("{container} runs {name}, which scripts/images does not build")
        });
    }
    findings.assert_none();
}

/// The text of all Rust files below a directory.
fn rust_below(directory: &Path, text: &mut String) {
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_below(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_trap_has_a_line_and_every_test_that_watches_one_is_there() {
    let readme = fs::read_to_string(root().join("helm/tests/README.md")).unwrap();
    for trap in 1..=25 {
        assert!(readme.contains(&format!("\n| {trap} | ")), "trap {trap} is not watched");
    }
    let mut code = String::new();
    rust_below(&root().join("helm/tests/tests"), &mut code);
    rust_below(&root().join("services"), &mut code);
    let names: Vec<_> = readme
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() > 2 && !word.contains([' ', '/', '.']))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}
