//! The part of a Kubernetes API server that the commands use, in memory.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse as _, Response},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value, json};

pub(crate) const NAMESPACE: &str = "shop";

/// What answers instead of the server, by method and path (after the namespace).
type Instead = Box<dyn Fn(&Method, &str) -> Option<u16> + Send + Sync>;

/// A service account with a token for an audience.
#[derive(Clone, Debug)]
struct Account {
    name: String,
    audience: String,
}

#[derive(Default)]
struct Cluster {
    /// By path after the namespace, for instance `secrets/root-ca`.
    objects: BTreeMap<String, Value>,
    labels: Map<String, Value>,
    version: u64,
    accounts: BTreeMap<String, Account>,
    /// `PATCH secrets/vault-unseal`.
    requests: Vec<String>,
}

#[derive(Clone)]
struct Shared {
    cluster: Arc<Mutex<Cluster>>,
    instead: Arc<Mutex<Arc<Instead>>>,
    token: Arc<Mutex<String>>,
}

/// A running server. It ends with the test process.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) token_file: PathBuf,
    shared: Shared,
}

impl Api {
    /// `directory` is for the token of the pods' own service account.
    pub(crate) fn start(directory: &std::path::Path) -> Self {
        let token = "the pod's own token".to_owned();
        let token_file = directory.join("api-token");
        std::fs::write(&token_file, format!("{token}\n")).unwrap();
        let nothing: Instead = Box::new(|_, _| None);
        let shared = Shared {
            cluster: Arc::default(),
            instead: Arc::new(Mutex::new(Arc::new(nothing))),
            token: Arc::new(Mutex::new(token)),
        };
        let app = Router::new().fallback(handle).with_state(shared.clone());
        let (ready, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        Self { address: address.recv().unwrap(), token_file, shared }
    }

    /// The lines for a configuration file.
    pub(crate) fn section(&self) -> String {
        format!(
            "[kubernetes]\naddress = \"http://{}\"\ntoken = \"{}\"\n",
            self.address,
            self.token_file.display()
        )
    }

    /// The pods' own token is replaced, as the kubelet does it, and the old one is of no use.
    pub(crate) fn replace_token(&self, token: &str) {
        let mut current = self.shared.token.lock().unwrap();
        std::fs::write(&self.token_file, token).unwrap();
        token.clone_into(&mut current);
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.shared.cluster.lock().unwrap()
    }

    /// Answers some requests with a status of its own from now on.
    pub(crate) fn instead(
        &self,
        answer: impl Fn(&Method, &str) -> Option<u16> + Send + Sync + 'static,
    ) {
        let answer: Instead = Box::new(answer);
        *self.shared.instead.lock().unwrap() = Arc::new(answer);
    }

    pub(crate) fn objects(&self) -> BTreeMap<String, Value> {
        self.cluster().objects.clone()
    }

    pub(crate) fn labels(&self) -> Map<String, Value> {
        self.cluster().labels.clone()
    }

    pub(crate) fn set_label(&self, key: &str, value: &str) {
        self.cluster().labels.insert(key.to_owned(), value.into());
    }

    /// What was asked so far, forgotten with this.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.cluster().requests)
    }

    /// A value of a Secret.
    pub(crate) fn secret(&self, name: &str, key: &str) -> Option<String> {
        let cluster = self.cluster();
        let text = cluster.objects.get(&format!("secrets/{name}"))?["data"][key].as_str()?;
        Some(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
    }

    /// A value of a `ConfigMap`.
    pub(crate) fn config_map(&self, name: &str, key: &str) -> Option<String> {
        let cluster = self.cluster();
        let map = cluster.objects.get(&format!("configmaps/{name}"))?;
        map["data"][key].as_str().map(str::to_owned)
    }

    /// Makes or replaces a Secret.
    pub(crate) fn put_secret(&self, name: &str, values: &[(&str, &str)]) {
        let data: Map<String, Value> =
            values.iter().map(|(key, value)| ((*key).to_owned(), encoded(value))).collect();
        let mut cluster = self.cluster();
        cluster.version += 1;
        let metadata = json!({"name": name, "resourceVersion": cluster.version.to_string()});
        let object = json!({"metadata": metadata, "data": data});
        cluster.objects.insert(format!("secrets/{name}"), object);
    }

    /// A token of a service account for one audience, as the kubelet would project it.
    pub(crate) fn account_token(&self, account: &str, audience: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({
            "iss": "https://kubernetes.default.svc",
            "sub": format!("system:serviceaccount:{NAMESPACE}:{account}"),
            "aud": [audience],
            "iat": 1_000_000_000,
            "nbf": 1_000_000_000,
            "exp": 4_000_000_000_u64,
            "kubernetes.io": {
                "namespace": NAMESPACE,
                "serviceaccount": {"name": account, "uid": format!("uid-{account}")},
            },
        });
        let header = json!({"alg": "RS256", "typ": "JWT"});
        let token = format!("{}.{}.c2ln", part(&header), part(&claims));
        let account = Account { name: account.to_owned(), audience: audience.to_owned() };
        self.cluster().accounts.insert(token.clone(), account);
        token
    }
}

fn encoded(value: &str) -> Value {
    STANDARD.encode(value).into()
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
        return review(&shared.cluster.lock().unwrap(), &body);
    }
    let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
    let Some(path) = path.strip_prefix(&namespace) else {
        return status(404, "no such path");
    };
    let path = path.trim_start_matches('/').to_owned();
    shared.cluster.lock().unwrap().requests.push(format!("{} {path}", parts.method));
    let instead = Arc::clone(&shared.instead.lock().unwrap());
    // It may wait for another request.
    if let Some(code) = tokio::task::block_in_place(|| instead(&parts.method, &path)) {
        return status(code, "as the test wants it");
    }
    if !authorised(&parts.headers, &shared.token.lock().unwrap()) {
        return status(401, "Unauthorized");
    }
    let rehearsal = parts.uri.query().is_some_and(|query| query.contains("dryRun=All"));
    let mut cluster = shared.cluster.lock().unwrap();
    match parts.method {
        Method::GET => cluster.get(&path),
        Method::POST => cluster.create(&path, &body),
        Method::PATCH => {
            let merge = parts.headers.get("content-type");
            assert_eq!(merge.unwrap(), "application/merge-patch+json");
            cluster.patch(&path, &body, rehearsal)
        }
        _ => status(405, "no such method"),
    }
}

fn authorised(headers: &HeaderMap, token: &str) -> bool {
    headers.get(AUTHORIZATION).is_some_and(|value| *value == format!("Bearer {token}"))
}

fn status(code: u16, message: &str) -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "message": message, "code": code});
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

impl Cluster {
    fn get(&self, path: &str) -> Response {
        if path.is_empty() {
            return Json(json!({"metadata": {"labels": self.labels}})).into_response();
        }
        match self.objects.get(path) {
            Some(object) => Json(object).into_response(),
            None => status(404, "not found"),
        }
    }

    fn create(&mut self, path: &str, body: &Bytes) -> Response {
        let mut object: Value = serde_json::from_slice(body).unwrap();
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&path) {
            return status(409, "already exists");
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path, object.clone());
        (StatusCode::CREATED, Json(object)).into_response()
    }

    fn patch(&mut self, path: &str, body: &Bytes, rehearsal: bool) -> Response {
        let change: Value = serde_json::from_slice(body).unwrap();
        if path.is_empty() {
            let labels = change["metadata"]["labels"].as_object().unwrap().clone();
            self.labels.extend(labels);
            return Json(json!({})).into_response();
        }
        let Some(before) = self.objects.get(path) else { return status(404, "not found") };
        let wanted = &change["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != before["metadata"]["resourceVersion"] {
            return status(409, "the object has been modified");
        }
        let mut after = before.clone();
        merge(&mut after, &change);
        if !rehearsal {
            self.version += 1;
            after["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.objects.insert(path.to_owned(), after.clone());
        }
        Json(after).into_response()
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn review(cluster: &Cluster, body: &Bytes) -> Response {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let account = cluster.accounts.get(token);
    let asked = review["spec"]["audiences"].as_array().cloned().unwrap_or_default();
    review["status"] = match account {
        Some(Account { name, audience })
            if asked.is_empty() || asked.contains(&json!(audience)) =>
        {
            json!({
                "authenticated": true,
                "user": {
                    "username": format!("system:serviceaccount:{NAMESPACE}:{name}"),
                    "uid": format!("uid-{name}"),
                },
                "audiences": [audience],
            })
        }
        _ => json!({"authenticated": false, "error": "no such token"}),
    };
    (StatusCode::CREATED, Json(review)).into_response()
}
