//! The HTTP edge, and how cards misbehave on it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, FromRequest, MatchedPath, Path, Request as HttpRequest, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use portolan_runtime::{Context, telemetry::TraceContext};
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::{
    card::Card,
    ledger::{Answer, Ledger},
    problem::Problem,
    request::{Authorize, Capture, Refund, Request, Void, check_key},
    store::Operation,
};
use crate::api_keys::ApiKeys;

const BODY_BYTES: usize = 16 * 1024;

/// The longest that a request hangs whose client does not leave.
const HANG: Duration = Duration::from_mins(10);

/// What a caller can be allowed by name. The other path is not always the same.
pub(super) const PATHS: [&str; 4] = ["v1/authorizations", "v1/captures", "v1/voids", "v1/refunds"];

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Simulator {
    ledger: Ledger,
    late: Duration,
    /// Without them everybody may call.
    keys: Option<watch::Receiver<Arc<ApiKeys>>>,
}

impl Simulator {
    /// A simulator on a database that has its schema. `late` is how long `tok_late` takes to
    /// answer.
    pub fn new(ctx: Context, pool: PgPool, late: Duration) -> Self {
        Self { ledger: Ledger { pool, ctx }, late, keys: None }
    }

    /// The same, answering only those who show a key that is current when they call.
    #[must_use]
    pub fn demanding(self, keys: watch::Receiver<Arc<ApiKeys>>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// Waits, or ends the wait because the process stops.
    async fn wait(&self, time: Duration) -> Result<(), Problem> {
        let soft = self.ledger.ctx.tasks.soft();
        let waited = soft.run_until_cancelled(tokio::time::sleep(time)).await;
        waited.ok_or(Problem::ShuttingDown)
    }
}

/// The provider's API.
pub fn router(simulator: Simulator) -> Router {
    Router::new()
        .route("/v1/authorizations", post(authorize))
        .route("/v1/captures", post(capture))
        .route("/v1/voids", post(void))
        .route("/v1/refunds", post(refund))
        .route("/v1/operations/{idempotency_key}", get(operation))
        .fallback(|| async { Problem::NotFound("path") })
        .method_not_allowed_fallback(|| async {
            Problem::Rejected {
                status: StatusCode::METHOD_NOT_ALLOWED,
                code: "method_not_allowed",
                detail: "this path does not know that method".to_owned(),
            }
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(simulator.clone(), authenticate))
        .layer(middleware::from_fn(trace))
        .with_state(simulator)
}

/// Continues the caller's trace.
async fn trace(request: HttpRequest, next: Next) -> Response {
    // The path itself may be anything, and names are kept for ever.
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    let span = tracing::info_span!(
        "http",
        otel.kind = "server",
        otel.name = %format_args!("{} {route}", request.method()),
        http.request.method = %request.method(),
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        trace_id = tracing::field::Empty,
    );
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    TraceContext::parse(parent.unwrap_or_default()).set_parent(&span);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// Answers nobody who shows no key, not even with what paths there are.
async fn authenticate(
    State(psp): State<Simulator>,
    request: HttpRequest,
    next: Next,
) -> Result<Response, Problem> {
    let Some(keys) = psp.keys else { return Ok(next.run(request).await) };
    let shown = request.headers().get(AUTHORIZATION);
    let accepted = shown.is_some_and(|shown| keys.borrow().accept(shown));
    if accepted {
        return Ok(next.run(request).await);
    }
    tracing::warn!(shown = shown.is_some(), "a call without a key that counts");
    metrics::counter!("portolan_psp_unauthenticated_total").increment(1);
    Err(Problem::Unauthenticated)
}

/// A JSON body that is checked before the handler sees it.
struct Valid<R>(R);

impl<R, S> FromRequest<S> for Valid<R>
where
    R: Request + DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: HttpRequest, state: &S) -> Result<Self, Problem> {
        let body = Json::<R>::from_request(request, state).await;
        let Json(body) = body.map_err(|rejection| rejected(&rejection))?;
        body.validate()?;
        Ok(Self(body))
    }
}

fn rejected(rejection: &JsonRejection) -> Problem {
    let status = rejection.status();
    let code = match status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::PAYLOAD_TOO_LARGE => "payload_too_large",
        _ => "malformed_body",
    };
    // axum tells syntax (400) from types (422); 422 is the reused key's here.
    let status =
        if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status };
    Problem::Rejected { status, code, detail: rejection.body_text() }
}

type Decided = Result<Json<Operation>, Problem>;

async fn authorize(State(psp): State<Simulator>, Valid(request): Valid<Authorize>) -> Decided {
    if let Some(answer) = psp.ledger.repeat(&request).await? {
        return Ok(Json(answer.operation));
    }
    match Card::of(&request.payment_token) {
        Card::Hangs => {
            psp.wait(HANG).await?;
            Err(Problem::SimulatedFailure("it never answers"))
        }
        Card::FailsAtFirst if psp.ledger.count_attempt(&request.idempotency_key).await? == 1 => {
            Err(Problem::SimulatedOutage)
        }
        Card::AnswersLate => {
            let answer = psp.ledger.authorize(&request).await?;
            psp.wait(psp.late).await?;
            Ok(Json(answer.operation))
        }
        Card::FailsAfterwards => match psp.ledger.authorize(&request).await? {
            Answer { first: true, .. } => {
                Err(Problem::SimulatedFailure("it fails after having done it"))
            }
            Answer { operation, first: false } => Ok(Json(operation)),
        },
        Card::Good
        | Card::InsufficientFunds
        | Card::CaptureFails
        | Card::FailsAtFirst
        | Card::Unknown => psp.ledger.authorize(&request).await.map(decided),
    }
}

async fn capture(State(psp): State<Simulator>, Valid(request): Valid<Capture>) -> Decided {
    psp.ledger.capture(&request).await.map(decided)
}

async fn void(State(psp): State<Simulator>, Valid(request): Valid<Void>) -> Decided {
    psp.ledger.void(&request).await.map(decided)
}

async fn refund(State(psp): State<Simulator>, Valid(request): Valid<Refund>) -> Decided {
    psp.ledger.refund(&request).await.map(decided)
}

async fn operation(
    State(psp): State<Simulator>,
    key: Result<Path<String>, PathRejection>,
) -> Decided {
    let Ok(Path(key)) = key else { return Err(Problem::NotFound("operation")) };
    check_key("idempotency_key", &key)?;
    psp.ledger.find(&key).await?.map(Json).ok_or(Problem::NotFound("operation"))
}

fn decided(answer: Answer) -> Json<Operation> {
    Json(answer.operation)
}
