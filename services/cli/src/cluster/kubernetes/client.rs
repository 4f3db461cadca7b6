use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use reqwest::{Method, RequestBuilder, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    KubernetesConfig,
    error::KubernetesError,
    object::{Changes, Kind, Object, Stored},
};
use crate::cluster::https::{self, SetupError};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Who the server remembers as the writer of a field.
const FIELD_MANAGER: (&str, &str) = ("fieldManager", "portolan");

/// The API server, seen from one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Kubernetes {
    http: reqwest::Client,
    /// `https://server/api/v1/namespaces/name`
    namespace: String,
    token: PathBuf,
}

/// What the server says about a request that it did not do.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Labelled {
    metadata: Labels,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Kubernetes {
    /// # Errors
    /// The server's authority cannot be read.
    pub(crate) fn new(config: &KubernetesConfig, namespace: &str) -> Result<Self, KubernetesError> {
        let address = config.address.trim_end_matches('/');
        let ca = address.starts_with("https:").then_some(&*config.ca);
        let http = https::client(ca)?.timeout(TIMEOUT).build().map_err(SetupError::Tls)?;
        Ok(Self {
            http,
            namespace: format!("{address}/api/v1/namespaces/{namespace}"),
            token: config.token.clone(),
        })
    }

    /// An object, if it exists.
    ///
    /// # Errors
    /// The server did not say.
    pub(crate) async fn get(
        &self,
        kind: Kind,
        name: &str,
    ) -> Result<Option<Stored>, KubernetesError> {
        let what = format!("get {} {name}", kind.word());
        let request = self.request(Method::GET, &format!("/{}/{name}", kind.plural()))?;
        match answer(&what, request).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (StatusCode::OK, body) => match Stored::read(kind, body) {
                Some(stored) => Ok(Some(stored)),
                None => Err(KubernetesError::Malformed { request: what }),
            },
            (status, body) => Err(refused(what, status, body)),
        }
    }

    /// Makes an object; `false` if there is one of that name, whoever made it.
    ///
    /// # Errors
    /// The server did not do it.
    pub(crate) async fn create(&self, object: &Object<'_>) -> Result<bool, KubernetesError> {
        let what = format!("create {} {}", object.kind.word(), object.name);
        let path = format!("/{}", object.kind.plural());
        let request = self.request(Method::POST, &path)?.query(&[FIELD_MANAGER]);
        match answer(&what, request.json(&object.body())).await? {
            (status, _) if status.is_success() => Ok(true),
            (StatusCode::CONFLICT, _) => Ok(false),
            (status, body) => Err(refused(what, status, body)),
        }
    }

    /// Changes an object; `false` if it is of another version than the changes are meant for.
    ///
    /// # Errors
    /// The server did not do it, for instance because there is no such object.
    pub(crate) async fn patch(
        &self,
        kind: Kind,
        name: &str,
        changes: &Changes<'_>,
    ) -> Result<bool, KubernetesError> {
        let what = format!("patch {} {name}", kind.word());
        let request = self.request(Method::PATCH, &format!("/{}/{name}", kind.plural()))?;
        let request = if changes.rehearsal { request.query(&[("dryRun", "All")]) } else { request };
        match answer(&what, merge(request, &changes.body(kind))).await? {
            (status, _) if status.is_success() => Ok(true),
            (StatusCode::CONFLICT, _) => Ok(false),
            (status, body) => Err(refused(what, status, body)),
        }
    }

    /// The labels of the namespace.
    ///
    /// # Errors
    /// The server did not say.
    pub(crate) async fn labels(&self) -> Result<BTreeMap<String, String>, KubernetesError> {
        let what = "get the namespace".to_owned();
        match answer(&what, self.request(Method::GET, "")?).await? {
            (StatusCode::OK, body) => match serde_json::from_value::<Labelled>(body) {
                Ok(namespace) => Ok(namespace.metadata.labels),
                Err(_) => Err(KubernetesError::Malformed { request: what }),
            },
            (status, body) => Err(refused(what, status, body)),
        }
    }

    /// Sets labels of the namespace.
    ///
    /// # Errors
    /// The server did not do it.
    pub(crate) async fn set_labels(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), KubernetesError> {
        let what = "label the namespace".to_owned();
        let body = json!({"metadata": {"labels": labels}});
        match answer(&what, merge(self.request(Method::PATCH, "")?, &body)).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(refused(what, status, body)),
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, KubernetesError> {
        let token = fs::read_to_string(&self.token)
            .map_err(|source| KubernetesError::File { path: self.token.clone(), source })?;
        let url = format!("{}{path}", self.namespace);
        Ok(self.http.request(method, url).bearer_auth(token.trim()))
    }
}

fn merge(request: RequestBuilder, body: &Value) -> RequestBuilder {
    // The type first: the body brings its own only where there is none.
    request.query(&[FIELD_MANAGER]).header(CONTENT_TYPE, "application/merge-patch+json").json(body)
}

async fn answer(
    what: &str,
    request: RequestBuilder,
) -> Result<(StatusCode, Value), KubernetesError> {
    let failed = |error: reqwest::Error| {
        let request = what.to_owned();
        if error.is_timeout() {
            KubernetesError::TimedOut { request }
        } else {
            KubernetesError::Unreachable { request, cause: https::cause(&error) }
        }
    };
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let body = response.bytes().await.map_err(failed)?;
    // What is not JSON is as good as nothing: only a proxy answers so, with an error.
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

fn refused(request: String, status: StatusCode, body: Value) -> KubernetesError {
    let Status { message } = serde_json::from_value(body).unwrap_or_default();
    match status {
        StatusCode::UNAUTHORIZED => KubernetesError::Unauthorized { request },
        StatusCode::FORBIDDEN => KubernetesError::Forbidden { request, message },
        _ => KubernetesError::Refused { request, status: status.as_u16(), message },
    }
}
