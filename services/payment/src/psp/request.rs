//! The bodies of requests, and what must hold of them.

use std::fmt;

use portolan_kernel::Currency;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::problem::Problem;

const MAX_KEY: usize = 200;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authorize {
    pub(super) idempotency_key: String,
    pub(super) order_id: Uuid,
    pub(super) amount_minor: i64,
    pub(super) currency: Currency,
    pub(super) payment_token: String,
}

impl fmt::Debug for Authorize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize")
            .field("idempotency_key", &self.idempotency_key)
            .field("order_id", &self.order_id)
            .field("amount_minor", &self.amount_minor)
            .field("currency", &self.currency)
            .field("payment_token", &"[redacted]")
            .finish()
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    pub(super) idempotency_key: String,
    pub(super) authorization_key: String,
    pub(super) amount_minor: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Void {
    pub(super) idempotency_key: String,
    pub(super) authorization_key: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refund {
    pub(super) idempotency_key: String,
    pub(super) capture_key: String,
    pub(super) amount_minor: i64,
}

/// A request: its key, and a fingerprint that tells it from others with the same key.
pub(super) trait Request: Send + Sync {
    /// The name of the operation in the ledger.
    const KIND: &'static str;

    fn idempotency_key(&self) -> &str;

    /// What is wrong with it by itself.
    fn validate(&self) -> Result<(), Problem>;

    /// The fields besides the key, in a fixed order.
    fn fields(&self) -> Vec<String>;

    /// SHA-256 (FIPS 180-4) over the kind and the fields, each preceded by its length.
    fn fingerprint(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for part in std::iter::once(Self::KIND.to_owned()).chain(self.fields()) {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().to_vec()
    }
}

impl Request for Authorize {
    const KIND: &'static str = "authorize";

    fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }

    fn validate(&self) -> Result<(), Problem> {
        check_key("idempotency_key", &self.idempotency_key)?;
        amount(self.amount_minor)?;
        check_key("payment_token", &self.payment_token)
    }

    fn fields(&self) -> Vec<String> {
        vec![
            self.order_id.to_string(),
            self.amount_minor.to_string(),
            self.currency.to_string(),
            self.payment_token.clone(),
        ]
    }
}

impl Request for Capture {
    const KIND: &'static str = "capture";

    fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }

    fn validate(&self) -> Result<(), Problem> {
        check_key("idempotency_key", &self.idempotency_key)?;
        check_key("authorization_key", &self.authorization_key)?;
        amount(self.amount_minor)
    }

    fn fields(&self) -> Vec<String> {
        vec![self.authorization_key.clone(), self.amount_minor.to_string()]
    }
}

impl Request for Void {
    const KIND: &'static str = "void";

    fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }

    fn validate(&self) -> Result<(), Problem> {
        check_key("idempotency_key", &self.idempotency_key)?;
        check_key("authorization_key", &self.authorization_key)
    }

    fn fields(&self) -> Vec<String> {
        vec![self.authorization_key.clone()]
    }
}

impl Request for Refund {
    const KIND: &'static str = "refund";

    fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }

    fn validate(&self) -> Result<(), Problem> {
        check_key("idempotency_key", &self.idempotency_key)?;
        check_key("capture_key", &self.capture_key)?;
        amount(self.amount_minor)
    }

    fn fields(&self) -> Vec<String> {
        vec![self.capture_key.clone(), self.amount_minor.to_string()]
    }
}

/// Keys and tokens are shown in logs and paths: printable ASCII without spaces.
pub(super) fn check_key(field: &'static str, value: &str) -> Result<(), Problem> {
    let printable = value.bytes().all(|byte| byte.is_ascii_graphic());
    if value.is_empty() || value.len() > MAX_KEY || !printable {
        return Err(Problem::Field { field, detail: "1 to 200 printable ASCII characters" });
    }
    Ok(())
}

fn amount(minor_units: i64) -> Result<(), Problem> {
    if minor_units < 0 {
        return Err(Problem::Field { field: "amount_minor", detail: "zero or more" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(authorization: &str, amount: i64) -> Capture {
        Capture {
            idempotency_key: "cap:1".to_owned(),
            authorization_key: authorization.to_owned(),
            amount_minor: amount,
        }
    }

    #[test]
    fn fingerprints_tell_requests_apart() {
        let one = capture("auth:1", 12).fingerprint();
        assert_eq!(one, capture("auth:1", 12).fingerprint());
        assert_ne!(one, capture("auth:11", 2).fingerprint());
        assert_ne!(one, capture("auth:1", 13).fingerprint());
    }

    #[test]
    fn a_card_token_does_not_show_in_debug_output() {
        let request = Authorize {
            idempotency_key: "auth:1".to_owned(),
            order_id: Uuid::nil(),
            amount_minor: 1,
            currency: Currency::GBP,
            payment_token: "tok_secret".to_owned(),
        };
        assert!(!format!("{request:?}").contains("tok_secret"));
    }
}
