//! That the whole shop fits a laptop.

use std::fmt::Write as _;

use portolan_chart_tests::{
    object::{Container, Pod, text},
    quantity::{mebibytes, millicpu},
};

use crate::{
    pods::is_server,
    support::{Findings, everywhere, profile},
};

/// What all of it may request: 0.6 CPU and 1.4 GiB.
const CPU: f64 = 600.0;
const MEMORY: f64 = 1.4 * 1024.0;

fn cpu(container: Container<'_>) -> f64 {
    millicpu(text(container.value, "/resources/requests/cpu")).unwrap()
}

fn memory(container: Container<'_>) -> f64 {
    mebibytes(text(container.value, "/resources/requests/memory")).unwrap()
}

fn limit(container: Container<'_>) -> f64 {
    mebibytes(text(container.value, "/resources/limits/memory")).unwrap()
}

/// What the scheduler sets aside for a pod: what runs along together, or the largest of what runs
/// before if that is more.
fn request(pod: Pod<'_>, of: impl Fn(Container<'_>) -> f64) -> f64 {
    let (along, before): (Vec<_>, Vec<_>) =
        pod.containers().into_iter().partition(|container| container.runs_along());
    let largest = before.into_iter().map(&of).fold(0.0, f64::max);
    along.into_iter().map(&of).sum::<f64>().max(largest)
}

#[test]
fn the_default_values_fit_a_laptop() {
    let rendered = profile("default");
    let (mut cpus, mut memories, mut table) = (0.0, 0.0, String::new());
    for pod in rendered.objects.pods().filter(|pod| is_server(pod.owner)) {
        let replicas = pod.owner.0["spec"]["replicas"].as_f64().unwrap_or(1.0);
        let (cpu, memory) = (replicas * request(pod, cpu), replicas * request(pod, memory));
        let _ = writeln!(table, "{}: {replicas} replicas, {cpu} m, {memory} MiB", pod.owner);
        cpus += cpu;
        memories += memory;
    }
    assert!(cpus > 0.0 && memories > 0.0, "nothing runs");
    assert!(cpus <= CPU, "{cpus} m of CPU are more than {CPU} m:\n{table}");
    assert!(memories <= MEMORY, "{memories} MiB are more than {MEMORY} MiB:\n{table}");
}

#[test]
fn no_container_requests_more_than_its_limit() {
    everywhere(|rendered, findings| {
        for container in rendered.objects.containers() {
            let fits = memory(container) <= limit(container);
            findings.check(fits, || format!("{container} requests more than its limit"));
        }
    });
}

#[test]
fn jobs_take_no_more_than_a_service_does() {
    let mut findings = Findings::default();
    for pod in profile("default").objects.pods().filter(|pod| pod.owner.kind() == "Job") {
        let (cpu, memory) = (request(pod, cpu), request(pod, memory));
        findings.check(cpu <= 60.0 && memory <= 128.0, || {
            format!("{} requests {cpu} m and {memory} MiB", pod.owner)
        });
    }
    findings.assert_none();
}
