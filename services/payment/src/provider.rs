//! The payment provider's HTTP API, as far as the service uses it.
//!
//! Whatever is not a decision that the provider itself wrote down is [`Answer::Unknown`]: no
//! answer, one that cannot be read, a refusal of the request as such. Unknown is not failed.

mod connection;

use std::time::Duration;

use portolan_kernel::{Money, OrderId};
use portolan_runtime::{Context, telemetry::TraceContext};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::connection::Connection;
use crate::{
    config::ProviderConfig,
    domain::{Answer, CardToken, Step},
};

/// The most that is read of an answer, in bytes. Real ones have a few hundred.
const MAX_BODY: usize = 64 * 1024;

const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The most that is kept of a text that the provider wrote, in characters.
const MAX_TEXT: usize = 200;

/// A client of the provider. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Provider(Connection);

/// Why the provider is of no use at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("the payment provider does not answer")]
    Silent,
    #[error("the payment provider refuses us (HTTP status {0})")]
    Refused(StatusCode),
}

/// What to ask the provider.
#[derive(Clone, Debug)]
pub struct Question {
    /// The order, whose id makes the idempotency keys.
    pub order: OrderId,
    /// What to do.
    pub step: Step,
    /// How much; none only for a void of an amount that was never known.
    pub amount: Option<Money>,
    /// From which card; only for authorising.
    pub token: Option<CardToken>,
}

#[derive(Serialize)]
struct Authorize<'a> {
    idempotency_key: String,
    order_id: Uuid,
    amount_minor: i64,
    currency: &'a str,
    payment_token: &'a str,
}

#[derive(Serialize)]
struct Capture {
    idempotency_key: String,
    authorization_key: String,
    amount_minor: i64,
}

#[derive(Serialize)]
struct Void {
    idempotency_key: String,
    authorization_key: String,
}

#[derive(Debug, Deserialize)]
struct Reply {
    outcome: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    reference: String,
}

/// Why the outcome of a call is unknown.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("no answer")]
    Http(#[source] reqwest::Error),
    #[error("HTTP status {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
    // Not the error itself, which may quote all of the answer.
    #[error("the answer cannot be read ({0:?})")]
    Unreadable(serde_json::error::Category),
    #[error("the outcome {0:?} is no answer to the question")]
    Outcome(String),
    #[error("the payment lacks what the question needs")]
    Incomplete,
}

impl Provider {
    /// A client that connects when it is first used. The file with its key is read again every
    /// `poll`.
    ///
    /// # Errors
    /// The TLS backend cannot be set up; the file is missing or of no use.
    pub fn new(config: &ProviderConfig, ctx: &Context, poll: Duration) -> anyhow::Result<Self> {
        Connection::new(config, ctx, poll).map(Self)
    }

    /// Asks, and waits no longer than the configured time. Asking again is safe: the keys are the
    /// same.
    pub async fn ask(&self, question: &Question, trace: &TraceContext) -> Answer {
        match self.call(question, trace).await {
            Ok(answer) => answer,
            Err(silence @ Silence::Status(status)) if status.is_client_error() => {
                // Repeating will not help, but the order's cancellation will.
                tracing::error!(error = %silence, "the provider does not accept the request");
                Answer::Unknown
            }
            Err(silence) => {
                let error = portolan_runtime::one_line(&silence);
                tracing::warn!(error, "the outcome at the provider is unknown");
                Answer::Unknown
            }
        }
    }

    /// Whether the provider answers at all, and us.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), Trouble> {
        let request = self.0.request(Method::GET, "/v1/operations/none");
        let answer = self.0.send(request.timeout(CHECK_TIMEOUT)).await;
        match answer.map_err(|_| Trouble::Silent)?.status() {
            status if status.is_server_error() => Err(Trouble::Silent),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Trouble::Refused(status))
            }
            _ => Ok(()),
        }
    }

    async fn call(&self, question: &Question, trace: &TraceContext) -> Result<Answer, Silence> {
        let key = question.step.key(question.order);
        let authorization_key = Step::Authorize.key(question.order);
        let reply = match question.step {
            Step::Authorize => {
                let amount = question.amount.ok_or(Silence::Incomplete)?;
                let token = question.token.as_ref().ok_or(Silence::Incomplete)?;
                let body = Authorize {
                    idempotency_key: key,
                    order_id: question.order.0,
                    amount_minor: amount.minor_units,
                    currency: amount.currency.as_str(),
                    payment_token: token.expose(),
                };
                self.post("/v1/authorizations", &body, trace).await?
            }
            Step::Capture => {
                let amount_minor = question.amount.ok_or(Silence::Incomplete)?.minor_units;
                let body = Capture { idempotency_key: key, authorization_key, amount_minor };
                self.post("/v1/captures", &body, trace).await?
            }
            Step::Void => {
                let body = Void { idempotency_key: key, authorization_key };
                self.post("/v1/voids", &body, trace).await?
            }
        };
        answer(question.step, &reply)
    }

    async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        trace: &TraceContext,
    ) -> Result<Reply, Silence> {
        let request = self.0.request(Method::POST, path).json(body);
        let request =
            if trace.is_none() { request } else { request.header("traceparent", trace.as_str()) };
        let mut response = self.0.send(request).await.map_err(Silence::Http)?;
        if !response.status().is_success() {
            return Err(Silence::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Silence::Http)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Silence::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| Silence::Unreadable(error.classify()))
    }
}

fn answer(step: Step, reply: &Reply) -> Result<Answer, Silence> {
    let code = text(reply.code.as_deref().unwrap_or_default(), &reply.outcome);
    match (step, reply.outcome.as_str()) {
        (Step::Authorize, "approved") => {
            Ok(Answer::Approved { reference: text(&reply.reference, &reply.outcome) })
        }
        (Step::Authorize, "declined" | "refused") => Ok(Answer::Declined { code }),
        (Step::Capture, "captured") => Ok(Answer::Captured),
        (Step::Capture, "refused") => Ok(Answer::CaptureRefused { code }),
        (Step::Void, "voided") => Ok(Answer::Voided),
        (Step::Void, "nothing_to_void") => Ok(Answer::NothingToVoid),
        (Step::Void, "refused") => Ok(Answer::VoidRefused { code }),
        _ => Err(Silence::Outcome(text(&reply.outcome, ""))),
    }
}

/// What the database, logs and events can always take of a text that the provider wrote: its
/// printable ASCII, cut to length, or the other text if nothing is left.
fn text(written: &str, otherwise: &str) -> String {
    let printable = |char: &char| matches!(char, ' '..='~');
    let kept: String = written.chars().filter(printable).take(MAX_TEXT).collect();
    if kept.trim().is_empty() { otherwise.to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(outcome: &str) -> Reply {
        Reply { outcome: outcome.to_owned(), code: None, reference: "r".to_owned() }
    }

    #[test]
    fn an_outcome_of_another_step_is_no_answer() {
        assert!(answer(Step::Void, &reply("captured")).is_err());
        assert!(answer(Step::Capture, &reply("declined")).is_err());
        assert!(answer(Step::Authorize, &reply("pending")).is_err());
        assert_eq!(answer(Step::Capture, &reply("captured")).unwrap(), Answer::Captured);
    }

    #[test]
    fn what_the_provider_wrote_is_kept_only_as_far_as_it_can_be_stored() {
        let code_of = |code: Option<&str>| {
            let reply = Reply { code: code.map(ToOwned::to_owned), ..reply("refused") };
            let Answer::CaptureRefused { code } = answer(Step::Capture, &reply).unwrap() else {
                panic!("a refused capture is one");
            };
            code
        };
        assert_eq!(code_of(Some("authorization_expired")), "authorization_expired");
        assert_eq!(code_of(Some("no\0 mo\u{202e}re\n")), "no more");
        for nothing in [None, Some(""), Some(" "), Some("\0\u{1f4a5}")] {
            assert_eq!(code_of(nothing), "refused");
        }
        assert_eq!(code_of(Some(&"x".repeat(600 * 1024))), "x".repeat(200));
        let reference =
            |reference: &str| Reply { reference: reference.to_owned(), ..reply("approved") };
        for (written, kept) in [("ref\0 1", "ref 1"), ("\0", "approved"), ("", "approved")] {
            let kept = Answer::Approved { reference: kept.to_owned() };
            assert_eq!(answer(Step::Authorize, &reference(written)).unwrap(), kept);
        }
    }
}
