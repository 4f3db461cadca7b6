//! The payment provider simulator, `portolan-psp`: what a card acquirer does, small enough to read.
//!
//! It is a program of its own with a database of its own and knows nothing of the shop but the
//! requests of its one caller, the payment service. Its ledger is durable and keyed by
//! idempotency key, so that an auditor can count what really happened to the money:
//!
//! - the same key with the same request gets the same, stored answer for ever; with another
//!   request it gets 422 `idempotency_key_reused`;
//! - a void names the *authorisation's* key and accepts one it has never seen: it leaves a tombstone
//!   that refuses an authorisation which comes later (`authorization_voided`), so that the outcome
//!   of a call that nobody heard the answer of can be ended for certain;
//! - captured is captured: a void of it is refused, and so is a second capture;
//! - each request is one transaction that holds the lock of the authorisation's row.
//!
//! A decided request is answered 200, whatever was decided; see `outcome` and `code` in the body.
//! Errors are `application/problem+json` (RFC 9457). Where keys are configured, a request shows one
//! of them (`Authorization: Bearer <key>`) or gets 401 `unauthenticated`, whatever it asks for.
//!
//! | Request | Body |
//! |---|---|
//! | `POST /v1/authorizations` | `{idempotency_key, order_id, amount_minor, currency, payment_token}` |
//! | `POST /v1/captures` | `{idempotency_key, authorization_key, amount_minor}` |
//! | `POST /v1/voids` | `{idempotency_key, authorization_key}` |
//! | `POST /v1/refunds` | `{idempotency_key, capture_key, amount_minor}` |
//! | `GET /v1/operations/{idempotency_key}` | |
//!
//! # Card tokens
//!
//! How the provider behaves is chosen by how the token begins, so that every order can have a
//! token of its own and every branch can be reached from the shop's front door:
//!
//! | Token | Authorise | Capture |
//! |---|---|---|
//! | `tok_ok…` | approved | captured |
//! | `tok_declined…` | declined, `insufficient_funds` | |
//! | `tok_hang…` | nothing is done and no answer ever comes (query and void work) | |
//! | `tok_late…` | approved at once, answered after `late_ms`, when the caller has given up | captured |
//! | `tok_error…` | approved, answered 500; repeated, answered 200 from the ledger | captured |
//! | `tok_capture_fails…` | approved | refused for ever, `authorization_expired` |
//! | `tok_flaky…` | the first time nothing is done and 503 answered, then approved | captured |
//! | anything else | declined, `unknown_token` | |

mod card;
mod http;
mod ledger;
mod problem;
mod request;
mod rules;
mod service;
mod store;

pub use card::Card;
pub use http::{Simulator, router};
pub use rules::{AuthorizationStatus, Outcome, Ruling, authorize, capture, void};
pub use service::{Config, MIGRATOR, PspService};
