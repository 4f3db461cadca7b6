//! The development issuer, the verifier and the fetched key set, over real files, signatures and
//! HTTP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod issuer;
mod key_set;
mod rotation;
mod support;
mod verifier;
