//! Reading pods.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::Cluster;

/// How often something is looked at while waiting for it.
pub(crate) const EVERY: Duration = Duration::from_millis(500);

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

pub(crate) fn component(object: &Value) -> &str {
    object["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default()
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|all| all.iter().any(ready))
}

pub(crate) fn is_done(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded"
}

/// Whether a Deployment or `StatefulSet` stands behind it, so that it is to run for ever.
pub(crate) fn stays(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let standing = |owner: &Value| owner["kind"] == "ReplicaSet" || owner["kind"] == "StatefulSet";
    owners.is_some_and(|all| all.iter().any(standing))
}

/// How often containers were started again, by pod and container.
pub(crate) fn restarts(pods: &[Value]) -> BTreeMap<String, u64> {
    let mut restarts = BTreeMap::new();
    for pod in pods {
        for list in ["containerStatuses", "initContainerStatuses"] {
            for status in pod["status"][list].as_array().into_iter().flatten() {
                let count = status["restartCount"].as_u64().unwrap_or_default();
                if count > 0 {
                    let container = status["name"].as_str().unwrap_or_default();
                    restarts.insert(format!("{}/{container}", name(pod)), count);
                }
            }
        }
    }
    restarts
}

impl Cluster {
    /// The pods of the release that are to run for ever.
    ///
    /// # Errors
    /// kubectl fails.
    pub(crate) async fn standing(&self) -> anyhow::Result<Vec<Value>> {
        let label = format!("app.kubernetes.io/instance={}", self.release);
        let pods = self.list("pods", &label).await?;
        Ok(pods.into_iter().filter(stays).collect())
    }

    /// The ready pods of one component.
    ///
    /// # Errors
    /// kubectl fails.
    pub(crate) async fn ready_pods(&self, component: &str) -> anyhow::Result<Vec<Value>> {
        let pods = self.standing().await?;
        Ok(pods
            .into_iter()
            .filter(|pod| self::component(pod) == component && is_ready(pod))
            .collect())
    }

    /// Deletes a pod and waits until its component has as many ready pods as before, none of them it.
    /// Returns how long that took.
    ///
    /// # Errors
    /// kubectl fails, or the component is not back within three minutes.
    pub(crate) async fn replace(&self, pod: &Value) -> anyhow::Result<Duration> {
        let wanted = self.ready_pods(component(pod)).await?.len();
        let begun = Instant::now();
        self.kubectl(&["delete", "pod", name(pod), "--wait=false"]).await?;
        loop {
            let ready = self.ready_pods(component(pod)).await?;
            let others = ready.iter().filter(|other| uid(other) != uid(pod)).count();
            if others >= wanted.max(1) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > Duration::from_mins(3) {
                bail!("{} was not replaced by a ready pod within 3 minutes", name(pod));
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Waits until a pod or a Job has come to its end, and says whether it was a good one.
    ///
    /// # Errors
    /// kubectl fails, or the time is over.
    pub(crate) async fn ended(
        &self,
        kind: &str,
        name: &str,
        limit: Duration,
    ) -> anyhow::Result<bool> {
        let begun = Instant::now();
        loop {
            let object = self.get(&[kind, name]).await?;
            let status = &object["status"];
            let condition = |wanted: &str| {
                let all = status["conditions"].as_array().into_iter().flatten();
                all.into_iter().any(|c| c["type"] == wanted && c["status"] == "True")
            };
            if status["phase"] == "Succeeded" || condition("Complete") {
                return Ok(true);
            }
            if status["phase"] == "Failed" || condition("Failed") {
                return Ok(false);
            }
            if begun.elapsed() > limit {
                bail!("{kind} {name} did not end within {} s", limit.as_secs());
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}
