//! What an upgrade changes: nothing that need not, and nothing that cannot.

use std::{collections::BTreeMap, sync::OnceLock};

use portolan_chart_tests::{
    goldens,
    helm::{Helm, Install},
    object::{Object, Objects, Pod, list, texts},
};
use serde_json::Value;

use crate::support::{Findings, content, in_parallel, profile};

fn rendered(install: &Install) -> Objects {
    Objects::parse(&install.render(Helm::Four).unwrap()).unwrap()
}

#[test]
fn a_second_rendering_is_the_first_one_again() {
    let install = goldens::install("ha").unwrap();
    assert_eq!(content(&rendered(&install)), profile("ha").content);
}

#[test]
fn an_upgrade_renders_what_an_installation_does() {
    let mut upgrade = Install::default();
    upgrade.options.push("--is-upgrade".to_owned());
    assert_eq!(content(&rendered(&upgrade)), profile("default").content);
}

/// Changes as they come in an upgrade, each with what it makes of the default values.
fn changes() -> &'static [(String, Objects)] {
    static CHANGES: OnceLock<Vec<(String, Objects)>> = OnceLock::new();
    CHANGES.get_or_init(|| {
        in_parallel(changed(), |install| (install.options.join(" "), rendered(&install)))
    })
}

fn changed() -> Vec<Install> {
    let digest = format!("image.digests.order=sha256:{}", "0".repeat(64));
    vec![
        Install::default().set("image.tag=0.2.0"),
        Install::default().set(&digest),
        Install::default().set("defaults.logs.filter=debug"),
        Install::default().set("services.order.config.orders.deadline_secs=60"),
        Install::default().set("tls.leafTtl=2m").set("tls.maxConnectionAge=30"),
        Install::default().set("secrets.database.defaultTtl=2m"),
        Install::default().set("services.psp.resources.requests.cpu=20m"),
        Install::default().set("migrations.resources.requests.cpu=20m"),
        Install::default().set("vault.configure.resources.requests.cpu=20m"),
        Install::default().set("demo.users.carol={customer}"),
        Install::default().set("global.podAnnotations.team=shop"),
        Install::default().set("networkPolicy.enabled=false"),
        Install::default().set("tools.load.enabled=false").set("tools.test.enabled=false"),
    ]
}

fn jobs(objects: &Objects) -> BTreeMap<&str, &Value> {
    let ordinary = objects.of_kind("Job").filter(|job| job.hooks().is_empty());
    ordinary.map(|job| (job.name(), &job.0["spec"])).collect()
}

#[test]
fn a_job_that_would_change_gets_another_name_because_jobs_cannot_change() {
    let first = &profile("default").objects;
    let before = jobs(first);
    assert!(before.keys().any(|name| name.starts_with("order-migrate-")), "{:?}", before.keys());
    let mut findings = Findings::default();
    for (change, objects) in changes() {
        let findings = findings.at(change);
        for (name, spec) in jobs(objects) {
            let same = before.get(name).is_none_or(|before| *before == spec);
            findings.check(same, || format!("Job {name} would have to change"));
        }
    }
    findings.assert_none();
}

#[test]
fn a_new_image_makes_new_migration_jobs() {
    let migrations = |objects: &Objects| -> Vec<String> {
        let jobs = objects.of_kind("Job").filter(|job| job.component().ends_with("-migrate"));
        jobs.map(|job| job.name().to_owned()).collect()
    };
    let before = migrations(&profile("default").objects);
    let after = migrations(&rendered(&Install::default().set("image.tag=0.2.0")));
    assert!(!before.is_empty());
    assert!(after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
}

/// Fields of a `StatefulSet` that may change; all others are fixed for ever.
const CHANGEABLE: [&str; 6] = [
    "minReadySeconds",
    "ordinals",
    "persistentVolumeClaimRetentionPolicy",
    "replicas",
    "template",
    "updateStrategy",
];

fn fixed(object: &Object) -> Value {
    let mut spec = object.0["spec"].clone();
    let map = spec.as_object_mut().unwrap();
    if object.kind() == "StatefulSet" {
        map.retain(|field, _| {
            !CHANGEABLE.contains(&field.as_str()) && field != "revisionHistoryLimit"
        });
    } else {
        map.retain(|field, _| field == "selector");
    }
    spec
}

#[test]
fn no_change_of_values_touches_what_cannot_be_changed() {
    let first = &profile("default").objects;
    let mut findings = Findings::default();
    for (change, objects) in changes() {
        let findings = findings.at(change);
        for object in &objects.0 {
            if !["StatefulSet", "Deployment"].contains(&object.kind()) {
                continue;
            }
            let before = first.get(object.kind(), object.name());
            findings.check(before.is_none_or(|before| fixed(before) == fixed(object)), || {
                format!("{object}: the upgrade would be refused")
            });
        }
    }
    findings.assert_none();
}

#[test]
fn a_change_of_one_service_rolls_that_service_alone() {
    let first = &profile("default").objects;
    let change = Install::default().set("services.order.config.orders.deadline_secs=60");
    let objects = rendered(&change);
    let rolled: Vec<_> = objects
        .pods()
        .filter(|pod| ["Deployment", "StatefulSet"].contains(&pod.owner.kind()))
        .filter(|pod| {
            let before = first.get(pod.owner.kind(), pod.owner.name()).unwrap();
            before.0["spec"]["template"] != pod.owner.0["spec"]["template"]
        })
        .map(Pod::component)
        .collect();
    assert_eq!(rolled, ["order"], "a changed configuration must reach its pods, and no others");
}

#[test]
fn the_versions_of_chart_and_images_are_not_in_what_rolls_or_cannot_be_changed() {
    for pod in profile("default").objects.pods() {
        if ["Deployment", "StatefulSet"].contains(&pod.owner.kind()) {
            let claims = list(&pod.owner.0, "/spec/volumeClaimTemplates");
            for part in claims.iter().chain([pod.template]) {
                let labels = texts(part, "/metadata/labels");
                assert!(!labels.contains_key("helm.sh/chart"), "{}", pod.owner);
                assert!(!labels.contains_key("app.kubernetes.io/version"), "{}", pod.owner);
            }
        }
    }
}
