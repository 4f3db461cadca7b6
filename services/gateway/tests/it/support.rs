use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::BodyExt as _;
use portolan_auth::{Issuer, Role, hash_password};
use portolan_gateway::{
    App, AuthConfig, BrowsersConfig, Config, DevIssuerConfig, LimitsConfig, RatesConfig,
    UserConfig, router,
};
use portolan_kernel::{Clock as _, SystemClock};
use portolan_proto::{
    inventory::v1::inventory_service_server::InventoryServiceServer,
    ops::v1::dead_letter_service_server::DeadLetterServiceServer,
    order::v1::order_service_server::OrderServiceServer,
};
use portolan_runtime::{Context, ServerConfig, TelemetryConfig, grpc, telemetry};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::double::Double;

pub(crate) const ISSUER: &str = "http://localhost:8080";
pub(crate) const AUDIENCE: &str = "portolan";

/// The gateway before a double of its services.
pub(crate) struct Gateway {
    pub(crate) double: Double,
    pub(crate) issuer: Issuer,
    router: Router,
    /// With the key file `issuer.pem`.
    pub(crate) directory: PathBuf,
    _services: Context,
}

/// An answer with its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::with(|_config| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        static TELEMETRY: OnceLock<telemetry::Telemetry> = OnceLock::new();
        TELEMETRY.get_or_init(|| {
            let quiet =
                TelemetryConfig { log_filter: "off".to_owned(), ..TelemetryConfig::default() };
            telemetry::init("gateway-test", &quiet, None).unwrap()
        });
        let double = Double::default();
        let services = serve(&double).await;
        let url = format!("http://{}", services.local_addr().unwrap());
        let directory = scratch();
        let mut config = config(url, directory.join("issuer.pem"));
        change(&mut config);
        let app = App::new(&config, &Context::new("gateway", None)).unwrap();
        let issuer = Issuer::open(&directory.join("issuer.pem"), ISSUER, AUDIENCE).unwrap();
        Self { double, issuer, router: router(app), directory, _services: services }
    }

    pub(crate) fn token(&self, subject: &str, roles: &[Role]) -> String {
        let ttl = Duration::from_hours(1);
        let token = self.issuer.issue(subject, roles, SystemClock.now(), ttl, Uuid::nil());
        token.unwrap().expose_secret().to_owned()
    }

    pub(crate) fn alice(&self) -> String {
        self.token("alice", &[Role::Customer])
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// The status alone: a stream has no end.
    pub(crate) async fn send_head(&self, request: Request<Body>) -> StatusCode {
        self.router.clone().oneshot(request).await.unwrap().status()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &self.alice(), Body::empty())).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(Method::POST, path, &self.alice(), body)).await
    }

    /// Places an order with a key.
    pub(crate) async fn place(&self, key: &str, body: impl Into<Body>) -> Answer {
        let mut request = request(Method::POST, "/v1/orders", &self.alice(), body);
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        self.send(request).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The document, after checking what every problem document must have.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:?}", String::from_utf8_lossy(&self.bytes));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let document = self.json();
        assert_eq!(document["code"], code, "{document}");
        assert_eq!(document["status"], status);
        let kind = format!("https://portolan.dev/problems/{}", code.replace('_', "-"));
        assert_eq!(document["type"], kind);
        for text in ["title", "detail", "instance"] {
            assert!(document[text].as_str().is_some_and(|text| !text.is_empty()), "{document}");
        }
        let trace_id = document["trace_id"].as_str().unwrap();
        assert_eq!(trace_id.len(), 32, "{document}");
        assert_eq!(self.header("x-trace-id"), trace_id);
        if matches!(status, 429 | 503) {
            assert!(self.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
        }
        document
    }

    /// The names of the fields at fault.
    pub(crate) fn fields(&self, status: u16, code: &str) -> Vec<String> {
        let document = self.problem(status, code);
        let errors = document["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    token: &str,
    body: impl Into<Body>,
) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    request.header(CONTENT_TYPE, "application/json").body(body.into()).unwrap()
}

pub(crate) const GOOD_ORDER: &str =
    r#"{"lines":[{"sku":"85123A","quantity":2}],"payment_token":"tok_ok_1"}"#;

async fn serve(double: &Double) -> Context {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let services = Context::new("double", Some(listener));
    let routes = Routes::new(OrderServiceServer::new(double.clone()));
    let routes = routes.add_service(InventoryServiceServer::new(double.clone()));
    let routes = routes.add_service(DeadLetterServiceServer::new(double.clone()));
    grpc::serve(&services, routes, &portolan_runtime::Callers::default()).await.unwrap();
    services
}

pub(crate) fn scratch() -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::SeqCst);
    let name = format!("portolan-gateway-test-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// With services at `url`.
pub(crate) fn config(url: String, key_file: PathBuf) -> Config {
    Config {
        server: ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            admin_listen: ([127, 0, 0, 1], 0).into(),
            grace_secs: 1,
            drain_delay_ms: 0,
            max_connection_age_secs: 0,
            max_connections: 1_024,
        },
        telemetry: TelemetryConfig::default(),
        tls: None,
        order_url: url.clone(),
        inventory_url: url.clone(),
        payment_url: Some(url.clone()),
        notification_url: Some(url),
        auth: AuthConfig {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            jwks_url: None,
        },
        dev_issuer: DevIssuerConfig {
            enabled: true,
            key_file,
            users: users(),
            ..DevIssuerConfig::default()
        },
        limits: LimitsConfig::default(),
        rates: RatesConfig::default(),
        quota: None,
        browsers: BrowsersConfig::default(),
        breaker: grpc::BreakerConfig::default(),
        retry: grpc::RetryConfig::default(),
    }
}

fn users() -> Vec<UserConfig> {
    // Hashing takes its time, so once for all tests.
    static HASH: OnceLock<Arc<str>> = OnceLock::new();
    let hash = HASH.get_or_init(|| hash_password("wonderland").unwrap().into());
    vec![UserConfig {
        username: "alice".to_owned(),
        password_hash: SecretString::from(hash.to_string()),
        roles: vec![Role::Customer],
    }]
}
