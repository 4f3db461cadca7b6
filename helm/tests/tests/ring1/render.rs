//! That every profile renders, with every Helm, to what the API accepts.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use portolan_chart_tests::{
    helm::{Helm, Install, profiles, program},
    root,
};

use crate::support::{Findings, distinct, in_parallel, matrix, oldest_kubernetes, refused};

#[test]
fn every_profile_renders_with_helm_3_for_the_oldest_kubernetes_and_with_helm_4_for_the_newest() {
    assert!(refused().is_empty(), "{}", refused().join("\n"));
    assert!(!matrix().is_empty());
}

#[test]
fn neither_the_version_of_helm_nor_that_of_kubernetes_makes_a_difference() {
    let mut findings = Findings::default();
    let matrix = matrix();
    for four in matrix.iter().filter(|rendered| rendered.helm == Helm::Four) {
        let three =
            matrix.iter().find(|three| three.helm == Helm::Three && three.profile == four.profile);
        let same = three.is_some_and(|three| three.content == four.content);
        findings.at(&four.profile).check(same, || "differs".to_owned());
    }
    findings.assert_none();
}

#[test]
fn lint_finds_nothing() {
    let mut tasks = Vec::new();
    for (profile, install) in profiles().unwrap() {
        if profile == "default" {
            tasks.push((profile.clone(), Helm::Three, install.clone()));
        }
        tasks.push((profile, Helm::Four, install));
    }
    let mut findings = Findings::default();
    let linted = in_parallel(tasks, |(profile, helm, install)| (profile, install.lint(helm)));
    for (profile, result) in linted {
        findings.at(&profile).check(result.is_ok(), || result.unwrap_err().to_string());
    }
    findings.assert_none();
}

#[test]
fn every_object_is_what_the_api_expects_and_no_more() {
    let mut findings = Findings::default();
    let checked = in_parallel(distinct(), |rendered| (rendered, kubeconform(&rendered.text)));
    for (rendered, complaints) in checked {
        findings.at(&rendered.profile).check(complaints.is_empty(), || complaints);
    }
    findings.assert_none();
}

/// The words of kubeconform about some objects, with the schemas of the repository and no others.
fn kubeconform(text: &str) -> String {
    let schemas = root().join("helm/schemas/{{.ResourceKind}}{{.KindSuffix}}.json");
    let mut child = Command::new(program("PORTOLAN_KUBECONFORM").unwrap())
        .args(["-strict", "-schema-location"])
        .arg(schemas)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() { said } else { format!("kubeconform failed\n{said}") }
}

#[test]
fn the_schemas_refuse_what_the_api_does_not_know() {
    let object =
        |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n{data}");
    assert_eq!(kubeconform(&object("data: {a: b}\n")), "");
    assert!(kubeconform(&object("date: {a: b}\n")).contains("date"));
    assert!(kubeconform(&object("data: {a: 1}\n")).contains("data"));
    assert!(kubeconform(&object("data: {a: b}\ndata: {a: c}\n")).contains("data"));
    let unknown = kubeconform("apiVersion: example.com/v1\nkind: Ship\nmetadata:\n  name: a\n");
    assert!(unknown.contains("could not find schema"), "{unknown}");
}

#[test]
fn a_kubernetes_older_than_the_oldest_is_refused() {
    let oldest = oldest_kubernetes();
    let mut parts = oldest.split('.');
    let (major, minor) = (parts.next().unwrap(), parts.next().unwrap());
    let older = format!("{major}.{}.0", minor.parse::<u32>().unwrap() - 1);
    for helm in Helm::ALL {
        let install = Install::default().kubernetes(&older);
        let refusal = install.render(helm).unwrap_err().to_string();
        assert!(refusal.contains("incompatible with Kubernetes"), "{refusal}");
    }
}
