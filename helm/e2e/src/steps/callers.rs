use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    manifest::{Question, shown},
    options::Options,
    pods,
};

/// One call of each service at least: refused or not, it changes nothing when its message is empty.
/// The provider speaks HTTP, and its 403 is what a gRPC client calls `PERMISSION_DENIED`.
const METHODS: [(&str, &str); 8] = [
    ("order", "portolan.order.v1.OrderService/PlaceOrder"),
    ("order", "portolan.order.v1.OrderService/GetOrder"),
    ("inventory", "portolan.inventory.v1.InventoryService/Quote"),
    ("inventory", "portolan.inventory.v1.InventoryService/ImportProducts"),
    ("payment", "portolan.payment.v1.PaymentService/GetPayment"),
    ("notification", "portolan.notification.v1.NotificationService/ListNotifications"),
    ("payment", "portolan.ops.v1.DeadLetterService/Redrive"),
    ("psp", "v1/captures"),
];
const IDENTITIES: [&str; 6] = ["gateway", "order", "inventory", "payment", "notification", "psp"];
/// Two are enough for every service to see a stranger.
const QUICK: [&str; 2] = ["notification", "payment"];
const LIMIT: Duration = Duration::from_mins(2);

pub(super) async fn are_refused(options: &Options, cluster: &Cluster) -> anyhow::Result<String> {
    for policy in Cluster::open_to_probes() {
        cluster.apply(&policy).await?;
    }
    let values = cluster.release_values().await?;
    let before = denied(cluster).await?;
    let mut refused = 0;
    let identities = if options.quick { &QUICK[..] } else { &IDENTITIES };
    for identity in identities {
        let questions: Vec<Question> = METHODS
            .iter()
            .enumerate()
            .filter(|(_, (service, _))| service != identity)
            .filter(|(_, (service, method))| !may_call(&values, identity, service, method))
            .map(|(at, (service, method))| {
                question(cluster, at, service, method, Some("PERMISSION_DENIED"))
            })
            .collect();
        refused += questions.len();
        ask(cluster, &format!("probe-{identity}"), identity, &questions, true).await?;
    }
    let nobody: Vec<Question> = METHODS
        .iter()
        .enumerate()
        .map(|(at, (service, method))| question(cluster, at, service, method, None))
        .collect();
    ask(cluster, "probe-nobody", QUICK[0], &nobody, true).await?;
    let after = denied(cluster).await?;
    for (service, count) in &after {
        let was = before.get(service).copied().unwrap_or_default();
        ensure!(*count > was, "{service} counted no refused call");
    }
    cluster.delete(&["networkpolicy", "probes-out", "probes-in"]).await?;
    Ok(format!(
        "{refused} calls of {identities:?} refused and counted, {} without a certificate",
        nobody.len()
    ))
}

fn may_call(values: &Value, identity: &str, service: &str, method: &str) -> bool {
    let short = method.rsplit('.').next().unwrap_or(method);
    let listed = values["services"][service]["callers"][identity].as_array().into_iter().flatten();
    let mut listed = listed.filter_map(Value::as_str);
    listed.any(|entry| entry == method || entry == short || entry == "*")
}

/// `expected` is the answer to a valid certificate; without one the connection is refused.
fn question(
    cluster: &Cluster,
    at: usize,
    service: &str,
    method: &str,
    expected: Option<&str>,
) -> Question {
    let url = format!("https://{}:8443", cluster.name(service));
    let mut arguments: Vec<String> = [
        "probe",
        "--config",
        "/etc/portolan/config.toml",
        "--url",
        &url,
        "--component",
        service,
        "--method",
        method,
    ]
    .map(str::to_owned)
    .into();
    match expected {
        Some(code) => arguments.extend(["--expect".to_owned(), code.to_owned()]),
        None => arguments.extend(["--no-certificate", "--expect", "TLS"].map(str::to_owned)),
    }
    Question { name: format!("ask-{at}"), arguments }
}

/// Runs the questions in one pod; every one of them must have had the answer it expected.
async fn ask(
    cluster: &Cluster,
    name: &str,
    identity: &str,
    questions: &[Question],
    open: bool,
) -> anyhow::Result<()> {
    cluster.delete(&["pod", name]).await?;
    for manifest in cluster.probe_pod(name, identity, questions, open).await? {
        cluster.apply(&manifest).await?;
    }
    if cluster.ended("pod", name, LIMIT).await? {
        return cluster.delete(&["pod,configmap", name]).await;
    }
    let mut wrong = Vec::new();
    let pod = cluster.get(&["pod", name]).await?;
    for question in questions {
        let logs = cluster.kubectl(&["logs", name, "-c", &question.name]).await.unwrap_or_default();
        wrong.push(format!(
            "{} {:?}: {}",
            shown(&pod, &question.name),
            question.arguments,
            logs.trim()
        ));
    }
    bail!("an answer was not the expected one:\n{}", wrong.join("\n"))
}

/// Refused calls so far, by service.
async fn denied(cluster: &Cluster) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let mut denied = BTreeMap::new();
    for service in ["order", "inventory", "payment", "notification", "psp"] {
        let pods = cluster.ready_pods(service).await?;
        let pod = pods.first().with_context(|| format!("no pod of {service} is ready"))?;
        let samples = cluster.metrics(pods::name(pod)).await?;
        denied.insert(service, samples.sum("portolan_denied_calls_total"));
    }
    Ok(denied)
}

/// The API server is an address that a pod reaches unless a policy forbids it: first a pod that may
/// go anywhere shows that it is there, then one with a service's own policies must not reach it.
pub(super) async fn cannot_leave(cluster: &Cluster) -> anyhow::Result<String> {
    for policy in Cluster::open_to_probes() {
        cluster.apply(&policy).await?;
    }
    let reach = |expected: &str| {
        let arguments = ["probe", "--tcp", "kubernetes.default.svc:443", "--expect", expected];
        vec![Question { name: "reach".to_owned(), arguments: arguments.map(str::to_owned).into() }]
    };
    ask(cluster, "probe-out-open", "order", &reach("OK"), true).await?;
    ask(cluster, "probe-out-closed", "order", &reach("TIMEOUT"), false).await?;
    cluster.delete(&["networkpolicy", "probes-out", "probes-in"]).await?;
    Ok("the API server: reached without the policies, not with them".to_owned())
}
