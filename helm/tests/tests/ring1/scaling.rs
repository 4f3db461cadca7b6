//! Replicas, and what looks after them.

use std::collections::BTreeMap;

use portolan_chart_tests::{
    network::selects,
    object::{Object, list, text, texts},
};
use serde_json::{Value, json};

use crate::{
    pods::{is_ours, is_server},
    support::{Rendered, everywhere, matrix, profile},
};

#[test]
fn who_is_scaled_by_others_has_no_number_of_replicas() {
    everywhere(|rendered, findings| {
        let scaled: Vec<_> = ["HorizontalPodAutoscaler", "ScaledObject"]
            .into_iter()
            .flat_map(|kind| rendered.objects.of_kind(kind))
            .map(|scaler| (scaler, text(&scaler.0, "/spec/scaleTargetRef/name")))
            .collect();
        for (scaler, target) in &scaled {
            let deployment = rendered.objects.get("Deployment", target);
            findings.check(deployment.is_some(), || format!("{scaler} scales nothing"));
            let twice = scaled.iter().filter(|(_, other)| other == target).count() > 1;
            findings.check(!twice, || format!("{target} is scaled by two"));
        }
        for deployment in rendered.objects.of_kind("Deployment") {
            let by_others = scaled.iter().any(|(_, target)| *target == deployment.name());
            let counted = deployment.0["spec"].get("replicas").is_some();
            findings.check(by_others != counted, || {
                format!("{deployment}: scaled by others: {by_others}, replicas given: {counted}")
            });
        }
    });
}

#[test]
fn somewhere_there_is_each_kind_of_scaler() {
    for kind in ["HorizontalPodAutoscaler", "ScaledObject"] {
        let there = matrix().iter().any(|rendered| rendered.objects.of_kind(kind).next().is_some());
        assert!(there, "no profile has a {kind}: its template is not tested");
    }
}

#[test]
fn no_group_has_more_members_than_a_topic_has_partitions() {
    everywhere(|rendered, findings| {
        for scaler in rendered.objects.of_kind("ScaledObject") {
            let most = scaler.0["spec"]["maxReplicaCount"].as_u64().unwrap_or(100);
            findings.check(most <= 12, || format!("{scaler} makes up to {most} consumers"));
        }
        findings.check(true, String::new);
    });
}

/// How many pods there can be at once, at the least.
fn replicas(rendered: &Rendered, workload: &Object) -> u64 {
    let name = workload.name();
    let least = |kind: &str, field: &str| {
        rendered
            .objects
            .of_kind(kind)
            .find(|scaler| text(&scaler.0, "/spec/scaleTargetRef/name") == name)
            .map(|scaler| scaler.0["spec"][field].as_u64().unwrap_or(1))
    };
    least("HorizontalPodAutoscaler", "minReplicas")
        .or_else(|| least("ScaledObject", "minReplicaCount"))
        .or_else(|| workload.0["spec"]["replicas"].as_u64())
        .unwrap_or(1)
}

#[test]
fn what_has_replicas_keeps_some_of_them_and_what_has_none_blocks_nobody() {
    everywhere(|rendered, findings| {
        let budgets: Vec<_> = rendered.objects.of_kind("PodDisruptionBudget").collect();
        for pod in rendered.objects.pods().filter(|pod| is_server(pod.owner)) {
            let own: Vec<_> = budgets
                .iter()
                .filter(|budget| selects(&budget.0["spec"]["selector"], &pod.labels()))
                .collect();
            let several = replicas(rendered, pod.owner) > 1;
            findings.check(own.len() == usize::from(several), || {
                format!("{}: several replicas: {several}, budgets: {}", pod.owner, own.len())
            });
        }
        for budget in budgets {
            let spec = &budget.0["spec"];
            let one = spec.get("maxUnavailable").is_some() != spec.get("minAvailable").is_some();
            findings.check(one, || format!("{budget} needs one of its two limits"));
            let policy = text(spec, "/unhealthyPodEvictionPolicy");
            findings.check(policy == "AlwaysAllow", || {
                format!("{budget} keeps a node from being emptied of pods that are broken anyway")
            });
            findings.check(spec["maxUnavailable"] != json!(0), || format!("{budget} blocks all"));
        }
    });
}

#[test]
fn a_rollout_never_has_fewer_pods_than_before() {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods().filter(|pod| pod.owner.kind() == "Deployment") {
            if pod.containers().into_iter().any(|container| is_ours(container) && !container.init) {
                let rolling = &pod.owner.0["spec"]["strategy"]["rollingUpdate"];
                findings.check(rolling["maxUnavailable"] == json!(0), || {
                    format!("{} is rolled out with fewer pods", pod.owner)
                });
            }
        }
    });
}

#[test]
fn spreading_never_keeps_a_pod_from_running() {
    everywhere(|rendered, findings| {
        for pod in rendered.objects.pods() {
            for constraint in list(pod.spec(), "/topologySpreadConstraints") {
                findings.check(text(constraint, "/whenUnsatisfiable") == "ScheduleAnyway", || {
                    format!("{} may stay pending on a small cluster", pod.owner)
                });
                let own = selects(&constraint["labelSelector"], &pod.labels());
                findings.check(own, || format!("{} spreads among others", pod.owner));
            }
            let affinity = pod.spec().pointer("/affinity/podAntiAffinity");
            let required = "requiredDuringSchedulingIgnoredDuringExecution";
            findings.check(affinity.is_none_or(|rules| rules.get(required).is_none()), || {
                format!("{} cannot run beside itself on one node", pod.owner)
            });
        }
    });
}

#[test]
fn the_profile_for_high_availability_has_two_of_every_service_and_three_brokers() {
    let rendered = profile("ha");
    let mut counts = BTreeMap::new();
    for pod in rendered.objects.pods().filter(|pod| is_server(pod.owner)) {
        counts.insert(pod.component(), replicas(rendered, pod.owner));
    }
    for service in ["gateway", "order", "inventory", "payment", "notification"] {
        assert!(counts[service] >= 2, "{service} has {} replicas", counts[service]);
    }
    assert!(counts["kafka"] >= 3, "Kafka has {} brokers", counts["kafka"]);
    let spread = rendered.objects.pods().filter(|pod| pod.owner.kind() == "Deployment");
    let spread = spread.filter(|pod| !list(pod.spec(), "/topologySpreadConstraints").is_empty());
    assert!(spread.count() >= 5, "replicas are not spread over nodes");
}

#[test]
fn every_redlock_master_stands_alone() {
    everywhere(|rendered, findings| {
        for workload in rendered.objects.of_kind("StatefulSet") {
            if workload.component() != "valkey" {
                continue;
            }
            let count = workload.0["spec"]["replicas"].as_u64().unwrap_or(1);
            findings.check(count >= 3 && count % 2 == 1, || format!("{workload}: {count}"));
            let data = rendered.objects.get("ConfigMap", workload.name());
            let data = data.map(|map| texts(&map.0, "/data")).unwrap_or_default();
            let settings: Vec<_> = data.values().flat_map(|text| text.lines()).collect();
            let has = |setting: &str| settings.iter().any(|line| line.trim() == setting);
            findings.check(has("appendonly yes") && has("appendfsync always"), || {
                format!("{workload} may forget a lock that it has given")
            });
            let alone = !settings.iter().any(|line| line.trim().starts_with("replicaof"));
            findings.check(alone, || format!("{workload} replicates"));
        }
        findings.check(true, String::new);
    });
}

#[test]
fn every_volume_claim_says_how_much_it_needs() {
    everywhere(|rendered, findings| {
        for set in rendered.objects.of_kind("StatefulSet") {
            for claim in list(&set.0, "/spec/volumeClaimTemplates") {
                let size =
                    claim.pointer("/spec/resources/requests/storage").and_then(Value::as_str);
                findings.check(size.is_some(), || format!("{set}: a claim of no size"));
            }
        }
        findings.check(true, String::new);
    });
}
