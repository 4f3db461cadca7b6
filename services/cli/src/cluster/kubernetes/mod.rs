//! The few things that we ask of the Kubernetes API: Secrets, `ConfigMap`s and the labels of a
//! namespace, as the service account of the pod that we are in.

mod client;
mod error;
mod object;

use std::path::PathBuf;

use portolan_runtime::{Invalid, Validate};
use serde::Deserialize;

use super::settings;

pub(crate) use client::Kubernetes;
pub(crate) use object::{Change, Changes, Kind, Object, Stored};

/// `[kubernetes]`: the API server and how to prove who we are. The defaults are those of every pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KubernetesConfig {
    pub address: String,
    /// The authority of the server's certificate.
    pub ca: PathBuf,
    /// The service account's token. It is replaced from time to time and read for every request.
    pub token: PathBuf,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        let directory = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount");
        Self {
            address: "https://kubernetes.default.svc".to_owned(),
            ca: directory.join("ca.crt"),
            token: directory.join("token"),
        }
    }
}

impl Validate for KubernetesConfig {
    fn validate(&self) -> Result<(), Invalid> {
        settings::address("kubernetes.address", &self.address)
    }
}
