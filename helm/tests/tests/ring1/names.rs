//! Names and labels: that they fit, that they never change, and that two releases never meet.

use std::collections::{BTreeMap, BTreeSet};

use portolan_chart_tests::{
    helm::{Helm, Install},
    network::selects,
    object::{Objects, text, texts},
};

use crate::support::{Findings, everywhere, matrix, profile};

/// The labels that selectors use.
const SELECTED: [&str; 3] =
    ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"];

fn rendered(install: &Install) -> Objects {
    Objects::parse(&install.render(Helm::Four).unwrap()).unwrap()
}

#[test]
fn names_fit_even_under_the_longest_release_name() {
    let longest = "a-release-of-thirty-characters";
    assert_eq!(longest.len(), 30);
    let mut findings = Findings::default();
    for install in [Install::default(), crate::support::renamed().release(longest)] {
        for object in rendered(&install).0 {
            // What the cluster appends: `-0` and a hash to pods of a set, a time to Jobs of a CronJob.
            let most = match object.kind() {
                "StatefulSet" | "CronJob" => 52,
                _ => 63,
            };
            findings.check((1..=most).contains(&object.name().len()), || {
                format!("{object}: the name is longer than {most}")
            });
            for (label, value) in object.labels() {
                findings.check(value.len() <= 63, || format!("{object}: {label} is too long"));
            }
        }
    }
    findings.assert_none();
}

#[test]
fn no_two_objects_have_one_name() {
    for rendered in matrix() {
        let mut seen = BTreeSet::new();
        for object in &rendered.objects.0 {
            let key = (object.kind(), object.name(), text(&object.0, "/metadata/namespace"));
            assert!(seen.insert(key), "{}: there are two of {object}", rendered.profile);
        }
    }
}

#[test]
fn everything_is_in_the_releases_namespace_and_carries_the_common_labels() {
    everywhere(|rendered, findings| {
        for object in &rendered.objects.0 {
            let cluster_wide = object.kind().starts_with("ClusterRole");
            let namespace = text(&object.0, "/metadata/namespace");
            findings.check(cluster_wide || namespace == rendered.install.namespace, || {
                format!("{object} is in `{namespace}`")
            });
            let labels = object.labels();
            let common =
                ["part-of", "version", "managed-by"].map(|l| format!("app.kubernetes.io/{l}"));
            let common = common.iter().map(String::as_str).chain(SELECTED).chain(["helm.sh/chart"]);
            for label in common {
                let there = labels.get(label).is_some_and(|value| !value.is_empty());
                findings.check(there, || format!("{object} has no label {label}"));
            }
        }
    });
}

#[test]
fn selectors_use_the_three_labels_that_never_change_and_select_their_own_pods() {
    everywhere(|rendered, findings| {
        for object in &rendered.objects.0 {
            if !["Deployment", "StatefulSet"].contains(&object.kind()) {
                continue;
            }
            let selector = &object.0["spec"]["selector"];
            let labels = texts(selector, "/matchLabels");
            let keys: Vec<_> = labels.keys().map(String::as_str).collect();
            findings.check(keys == SELECTED && selector.get("matchExpressions").is_none(), || {
                format!("{object} selects by {keys:?}")
            });
            for pod in rendered.objects.pods() {
                let own = std::ptr::eq(pod.owner, object);
                findings.check(selects(selector, &pod.labels()) == own, || {
                    format!("{object} and the pods of {} do not belong as they should", pod.owner)
                });
            }
        }
    });
}

#[test]
fn two_releases_have_nothing_in_common_in_one_cluster() {
    let one = rendered(&Install::default());
    // In the same namespace, and with the same name in another namespace.
    for other in [Install::default().release("blue"), Install::default().namespace("harbour")] {
        let other = rendered(&other);
        let names = |objects: &Objects| -> BTreeSet<_> {
            let name = |pointer, object: &portolan_chart_tests::object::Object| {
                text(&object.0, pointer).to_owned()
            };
            objects
                .0
                .iter()
                .map(|object| {
                    let kind = object.kind().to_owned();
                    (kind, name("/metadata/namespace", object), name("/metadata/name", object))
                })
                .collect()
        };
        let common: Vec<_> = names(&one).intersection(&names(&other)).cloned().collect();
        assert!(common.is_empty(), "{common:?}");
        let ours = one.of_kind("NetworkPolicy").chain(one.of_kind("PodDisruptionBudget"));
        for policy in ours {
            let spec = &policy.0["spec"];
            let selector = spec.get("podSelector").or_else(|| spec.get("selector")).unwrap();
            let theirs = other.pods().filter(|pod| pod.owner.0["metadata"]["namespace"] == "shop");
            for pod in theirs {
                assert!(!selects(selector, &pod.labels()), "{policy} selects {}", pod.owner);
            }
        }
    }
}

#[test]
fn the_usual_release_has_short_names() {
    let objects = &profile("default").objects;
    for service in ["gateway", "order", "inventory", "payment", "notification", "psp"] {
        assert!(objects.get("Deployment", service).is_some(), "there is no Deployment {service}");
        assert!(objects.get("Service", service).is_some(), "there is no Service {service}");
    }
    let components: BTreeMap<_, _> =
        objects.pods().map(|pod| (pod.component(), pod.owner.name())).collect();
    assert!(components.contains_key("bootstrap"), "{components:?}");
}
