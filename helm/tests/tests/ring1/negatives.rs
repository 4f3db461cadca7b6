//! Values that must be refused, and what Helm must say about them.

use portolan_chart_tests::helm::{Helm, Install};

use crate::support::{Findings, in_parallel};

/// A value as `--set` (or, with a JSON value, `--set-json`) takes it, and words of the refusal.
const REFUSED: &[(&str, &[&str])] = &[
    // Nothing that is misspelt is silently nothing.
    ("bogus=1", &["additional properties 'bogus' not allowed"]),
    ("services.order.replica=2", &["/services/order", "'replica' not allowed"]),
    ("services.shipping.enabled=true", &["/services", "'shipping' not allowed"]),
    ("services.order.config.orders.deadline=20", &["'deadline' not allowed"]),
    ("services.gateway.config.limit=1", &["'limit' not allowed"]),
    ("defaults.resources.request.cpu=1", &["'request' not allowed"]),
    ("networkPolicy.apiServerCidr=10.0.0.1/32", &["'apiServerCidr' not allowed"]),
    ("postgres.bundled.parameter.work_mem=4MB", &["'parameter' not allowed"]),
    ("tls.leafTTL=24h", &["'leafTTL' not allowed"]),
    // Nothing has the wrong type or form.
    ("services.order.replicas=0", &["/services/order/replicas", "minimum"]),
    ("services.order.replicas=two", &["/services/order/replicas", "got string, want integer"]),
    ("image.pullPolicy=Sometimes", &["/image/pullPolicy", "value must be one of"]),
    ("image.tag=a tag", &["/image/tag", "does not match pattern"]),
    ("image.digests.order=sha256:abc", &["/image/digests/order", "does not match pattern"]),
    ("secrets.delivery=csi", &["/secrets/delivery", "'agentSidecar'"]),
    ("migrations.mode=never", &["/migrations/mode", "'job', 'hook', 'startup'"]),
    ("podSecurity.enforce=privilege", &["/podSecurity/enforce", "value must be one of"]),
    ("exposure.service.type=Loadbalancer", &["/exposure/service/type", "value must be one of"]),
    ("tls.leafTtl=a day", &["/tls/leafTtl", "does not match pattern"]),
    (
        "networkPolicy.dnsCidrs={10.0.0.10}",
        &["/networkPolicy/dnsCidrs/0", "does not match pattern"],
    ),
    ("kafka.bundled.replicas=2", &["/kafka/bundled/replicas", "value must be one of"]),
    // Vault takes `*` for anything: it must not get into an identity.
    ("global.trustDomain=*", &["/global/trustDomain", "does not match pattern"]),
    ("global.clusterDomain=cluster.*", &["/global/clusterDomain", "does not match pattern"]),
    // Only components can call, and only methods can be called.
    (
        r#"services.order.callers={"gatewai": ["portolan.order.v1.OrderService/GetOrder"]}"#,
        &["gatewai"],
    ),
    (r#"services.order.callers={"gateway": ["*"]}"#, &["does not match pattern"]),
    (r#"services.order.callers={"gateway": []}"#, &["minItems"]),
    // One of two, never both, never none.
    (
        r#"defaults.pdb={"minAvailable": 1, "maxUnavailable": 1}"#,
        &["/defaults/pdb", "'oneOf' failed"],
    ),
    (r#"services.order.pdb={"minAvailable": 1, "maxUnavailable": 1}"#, &["pdb", "'oneOf' failed"]),
    ("postgres.external.enabled=true", &["/postgres", "'oneOf' failed"]),
    ("postgres.bundled.enabled=false", &["/postgres", "'oneOf' failed"]),
    ("kafka.bundled.enabled=false", &["/kafka", "'oneOf' failed"]),
    ("vault.external.enabled=true", &["vault"]),
    ("jaeger.external.endpoint=http://collector:4317", &["jaeger"]),
    ("mail.external.url=smtp://mail:25", &["mail"]),
    // What cannot work together.
    ("services.psp.enabled=false", &["services.psp.external.url must name a payment provider"]),
    ("vault.bundled.enabled=false", &["without a Vault"]),
    ("demo.enabled=false", &["demo.enabled"]),
    (
        r#"services.gateway.config.browsers={"allowed_origins": ["https://shop.example/page"]}"#,
        &["allowed_origins", "does not match pattern"],
    ),
];

#[test]
fn bad_values_are_refused_with_words_that_name_them() {
    let mut tasks = Vec::new();
    for (index, (value, expected)) in REFUSED.iter().enumerate() {
        // The older Helm refuses in the same way: a sample shows it.
        if index % 6 == 0 {
            tasks.push((*value, *expected, Helm::Three));
        }
        tasks.push((*value, *expected, Helm::Four));
    }
    let results = in_parallel(tasks, |(value, expected, helm)| {
        let install = Install::default();
        let install = match value.split_once('=') {
            Some((_, json)) if json.starts_with('{') && json.contains('"') => install.json(value),
            _ => install.set(value),
        };
        (value, expected, helm, install.render(helm))
    });
    let mut findings = Findings::default();
    for (value, expected, helm, result) in results {
        let findings = findings.at(&helm.to_string());
        let Err(refusal) = result else {
            findings.check(false, || format!("{value} is accepted"));
            continue;
        };
        let refusal = refusal.to_string();
        findings.check(expected.iter().all(|words| refusal.contains(words)), || {
            format!("{value} is refused without {expected:?}: {refusal}")
        });
    }
    findings.assert_none();
}

#[test]
fn settings_of_what_needs_valkey_are_refused_without_one() {
    for (section, key) in
        [("gateway.config.quota", "timeout_ms"), ("order.config.lock", "attempts")]
    {
        let install = Install::default()
            .set("valkey.bundled.enabled=false")
            .set("valkey.external.enabled=true")
            .set(&format!("services.{section}.{key}=1"));
        let refusal = install.render(Helm::Four).map(drop).unwrap_err().to_string();
        assert!(refusal.contains(section) && refusal.contains("valkey"), "{refusal}");
    }
}

#[test]
fn autoscaling_by_two_is_refused() {
    let install = Install::default()
        .set("services.order.autoscaling.hpa.enabled=true")
        .set("services.order.autoscaling.keda.enabled=true");
    let refusal = install.render(Helm::Four).unwrap_err().to_string();
    assert!(refusal.contains("services.order.autoscaling"), "{refusal}");
}

#[test]
fn a_release_name_that_cannot_be_a_part_of_names_is_refused() {
    for name in ["a-release-name-of-more-than-thirty-characters", "with.dots", "1st"] {
        let refusal = Install::default().release(name).render(Helm::Four).unwrap_err().to_string();
        assert!(refusal.contains("release name"), "{name}: {refusal}");
    }
}
