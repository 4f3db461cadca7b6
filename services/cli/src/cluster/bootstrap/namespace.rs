use std::collections::BTreeMap;

use super::Bootstrap;
use crate::out;

const MODES: [&str; 3] = ["enforce", "warn", "audit"];

impl Bootstrap<'_> {
    /// Pods that are less confined than they could be are refused, and warned about.
    pub(super) async fn namespace(self) -> anyhow::Result<()> {
        let level = &self.config.pod_security;
        if level.is_empty() {
            return Ok(());
        }
        let wanted: BTreeMap<String, String> = MODES
            .iter()
            .map(|mode| (format!("pod-security.kubernetes.io/{mode}"), level.clone()))
            .collect();
        let labels = self.kubernetes.labels().await?;
        if wanted.iter().any(|(key, value)| labels.get(key) != Some(value)) {
            self.kubernetes.set_labels(&wanted).await?;
            let namespace = &self.config.namespace;
            out::line(&format!("labelled namespace {namespace}: pod security {level}"));
        }
        Ok(())
    }
}
