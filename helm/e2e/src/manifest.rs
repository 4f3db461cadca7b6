//! Manifests made from those that the chart has installed.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{cluster::Cluster, pods};

/// The label of pods that only ask questions. The chart's policies do not know it.
pub(crate) const PROBE: &str = "portolan.dev/probe";
/// A port on which nothing listens.
const NOWHERE: u16 = 1;

/// One question: what to run with the identity of a workload.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// A word for the container.
    pub name: String,
    /// The arguments of `portolan`.
    pub arguments: Vec<String>,
}

impl Cluster {
    /// A pod with the service account, the agent, the labels and therefore the policies of
    /// `component`, in which `portolan` runs once for each question. It is never ready, so that no
    /// Service sends anything to it. With `open`, the policies of [`Self::open_to_probes`] let it
    /// reach everything.
    ///
    /// Returns the pod and the configuration that goes with it.
    ///
    /// # Errors
    /// The component is no Deployment of the release.
    pub(crate) async fn probe_pod(
        &self,
        name: &str,
        component: &str,
        questions: &[Question],
        open: bool,
    ) -> anyhow::Result<[Value; 2]> {
        let deployment = self.get(&["deployment", &self.name(component)]).await?;
        let template = &deployment["spec"]["template"];
        let image = self.tool_image().await?;
        let mut spec = template["spec"].clone();
        let service = spec["containers"][0].clone();
        let asking = questions.iter().map(|question| container(&service, &image, question));
        spec["containers"] = asking.collect();
        spec["restartPolicy"] = json!("Never");
        if let Some(fields) = spec.as_object_mut() {
            fields.remove("topologySpreadConstraints");
        }
        for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
            if volume["name"] == "config" {
                volume["configMap"] = json!({"name": name});
            }
        }
        let mut labels = template["metadata"]["labels"].clone();
        labels[PROBE] = json!(if open { "open" } else { "closed" });
        let metadata = json!({"name": name, "labels": labels});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        Ok([self.identity_of(component, name).await?, pod])
    }

    /// The `[tls]` section of a service's configuration, which is all that a probe needs of it.
    async fn identity_of(&self, component: &str, name: &str) -> anyhow::Result<Value> {
        let source = self.get(&["configmap", &self.name(component)]).await?;
        let text =
            source["data"]["config.toml"].as_str().context("the service has no config.toml")?;
        let section = section(text, "[tls]").context("the service has no [tls]")?;
        let data = json!({"config.toml": section});
        Ok(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}),
        )
    }

    /// Policies that let the open probes reach every pod, and nobody else: what refuses them then is
    /// not the network.
    pub(crate) fn open_to_probes() -> [Value; 2] {
        let probes = json!({"podSelector": {"matchLabels": {PROBE: "open"}}});
        let policy = |name: &str, spec: Value| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": name}, "spec": spec,
            })
        };
        [
            policy(
                "probes-out",
                json!({
                    "podSelector": probes["podSelector"], "policyTypes": ["Egress"], "egress": [{}],
                }),
            ),
            policy(
                "probes-in",
                json!({
                    "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [probes]}],
                }),
            ),
        ]
    }

    /// The image with the `portolan` command, as the chart names it.
    ///
    /// # Errors
    /// The release has no suspended job of that image.
    pub(crate) async fn tool_image(&self) -> anyhow::Result<String> {
        let tool = self.get(&["cronjob", &self.name("load")]).await?;
        let spec = &tool["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let image = spec["containers"][0]["image"].as_str();
        Ok(image.context("the load job has no image")?.to_owned())
    }

    /// A Job from one of the chart's suspended ones, with other arguments where they are given.
    ///
    /// # Errors
    /// There is no such suspended Job.
    pub(crate) async fn job_of(
        &self,
        component: &str,
        name: &str,
        arguments: &[(&str, String)],
    ) -> anyhow::Result<Value> {
        let source = self.get(&["cronjob", &self.name(component)]).await?;
        let mut job = source["spec"]["jobTemplate"].clone();
        job["apiVersion"] = json!("batch/v1");
        job["kind"] = json!("Job");
        job["metadata"]["name"] = json!(name);
        job["spec"]["backoffLimit"] = json!(0);
        let container = &mut job["spec"]["template"]["spec"]["containers"][0];
        let given = container["args"].as_array().cloned().unwrap_or_default();
        container["args"] = json!(with_arguments(given, arguments));
        Ok(job)
    }
}

/// The service's container with another program in it.
fn container(service: &Value, image: &str, question: &Question) -> Value {
    let mut container = service.clone();
    container["name"] = json!(question.name);
    container["image"] = json!(image);
    container["args"] = json!(question.arguments);
    container["resources"] = json!({"limits": {"memory": "64Mi"}});
    container["readinessProbe"] = json!({"tcpSocket": {"port": NOWHERE}});
    if let Some(fields) = container.as_object_mut() {
        for field in ["command", "livenessProbe", "startupProbe", "lifecycle", "ports"] {
            fields.remove(field);
        }
    }
    container
}

/// One table of a TOML file, with its heading.
fn section(text: &str, heading: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| line.trim() != heading);
    let first = lines.next()?;
    let rest = lines.take_while(|line| !line.starts_with('['));
    let lines: Vec<&str> = std::iter::once(first).chain(rest).collect();
    Some(lines.join("\n") + "\n")
}

/// The arguments with these options set, replacing what they were.
fn with_arguments(mut given: Vec<Value>, wanted: &[(&str, String)]) -> Vec<Value> {
    for (option, value) in wanted {
        match given.iter().position(|argument| argument == option) {
            Some(at) if at + 1 < given.len() => given[at + 1] = json!(value),
            _ => given.extend([json!(option), json!(value)]),
        }
    }
    given
}

/// The name of a container's pod, for messages.
pub(crate) fn shown(pod: &Value, container: &str) -> String {
    format!("{}/{container}", pods::name(pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "a = 1\n[x]\nb = 2\n\n[tls]\nc = 3\nd = []\n[y]\ne = 4\n";
        assert_eq!(section(text, "[tls]").as_deref(), Some("[tls]\nc = 3\nd = []\n"));
        assert_eq!(section(text, "[z]"), None);
    }

    #[test]
    fn an_option_that_is_there_gets_another_value_and_a_new_one_is_added() {
        let given = vec![json!("replay"), json!("--rate"), json!("1")];
        let wanted = [("--rate", "5".to_owned()), ("--duration", "60".to_owned())];
        let expected = ["replay", "--rate", "5", "--duration", "60"].map(|text| json!(text));
        assert_eq!(with_arguments(given, &wanted), expected);
    }
}
