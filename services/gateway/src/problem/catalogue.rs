use http::StatusCode;

/// A kind of problem: its `code` and `type` never change once published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) code: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
}

macro_rules! kinds {
    ($($name:ident: $code:literal, $status:ident, $title:literal;)*) => {
        /// Constants for the kinds, so that a misspelt one does not compile.
        pub(crate) mod kind {
            use super::{Kind, StatusCode};
            $(pub(crate) const $name: &Kind =
                &Kind { code: $code, status: StatusCode::$status, title: $title };)*
        }

        /// Every kind that this interface knows, including those that other services decide.
        pub(crate) const KINDS: &[&Kind] = &[$(kind::$name),*];
    };
}

kinds! {
    BAD_REQUEST: "bad_request", BAD_REQUEST, "The request cannot be read";
    MALFORMED_JSON: "malformed_json", BAD_REQUEST, "The body is not JSON";
    IDEMPOTENCY_KEY_REQUIRED: "idempotency_key_required", BAD_REQUEST,
        "The Idempotency-Key header is missing";
    IDEMPOTENCY_KEY_INVALID: "idempotency_key_invalid", BAD_REQUEST,
        "The Idempotency-Key header cannot be used";
    UNAUTHENTICATED: "unauthenticated", UNAUTHORIZED, "A token is required";
    INVALID_TOKEN: "invalid_token", UNAUTHORIZED, "The token is not accepted";
    INVALID_CREDENTIALS: "invalid_credentials", UNAUTHORIZED, "User name or password is wrong";
    FORBIDDEN: "forbidden", FORBIDDEN, "The caller's roles do not suffice";
    NOT_FOUND: "not_found", NOT_FOUND, "Not found";
    METHOD_NOT_ALLOWED: "method_not_allowed", METHOD_NOT_ALLOWED, "The method does not exist here";
    CONFLICT: "conflict", CONFLICT, "The present state forbids it";
    USER_BUSY: "user_busy", CONFLICT, "Another order of the same customer is being placed";
    OPEN_ORDER_LIMIT: "open_order_limit", CONFLICT, "Too many open orders";
    ORDER_NOT_CANCELLABLE: "order_not_cancellable", CONFLICT, "The order can no longer be cancelled";
    BEHIND_ANOTHER: "behind_another_dead_letter", CONFLICT, "The event waits behind a dead letter";
    NOT_DEAD: "not_dead", CONFLICT, "The event is not a dead letter";
    PAYLOAD_TOO_LARGE: "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE,
        "The body's media type is not accepted";
    VALIDATION_FAILED: "validation_failed", UNPROCESSABLE_ENTITY, "Fields are not acceptable";
    UNKNOWN_SKU: "unknown_sku", UNPROCESSABLE_ENTITY, "A product is not in the catalogue";
    MIXED_CURRENCIES: "mixed_currencies", UNPROCESSABLE_ENTITY, "The prices have several currencies";
    NO_TOTAL: "no_total", UNPROCESSABLE_ENTITY, "The lines have no common total";
    IDEMPOTENCY_KEY_REUSED: "idempotency_key_reused", UNPROCESSABLE_ENTITY,
        "The idempotency key was used for another request";
    TOO_MANY_REQUESTS: "resource_exhausted", TOO_MANY_REQUESTS, "A limit is reached";
    RATE_LIMITED: "rate_limited", TOO_MANY_REQUESTS, "Too many requests in a row";
    INTERNAL: "internal", INTERNAL_SERVER_ERROR, "Something went wrong on our side";
    UNAVAILABLE: "unavailable", SERVICE_UNAVAILABLE, "Temporarily unavailable";
    EVENTS_DELAYED: "events_delayed", SERVICE_UNAVAILABLE, "No new orders until events are delivered";
    INVENTORY_UNAVAILABLE: "inventory_unavailable", SERVICE_UNAVAILABLE, "Prices cannot be had";
    OVERLOADED: "overloaded", SERVICE_UNAVAILABLE, "Too many requests at once";
    KEYS_UNAVAILABLE: "keys_unavailable", SERVICE_UNAVAILABLE, "Tokens cannot be checked";
    DEADLINE_EXCEEDED: "deadline_exceeded", GATEWAY_TIMEOUT, "The answer took too long";
}

/// The kind of an error that some layer made without saying more than its status. The first kind
/// of each status is its most general one.
pub(crate) fn of_status(status: StatusCode) -> &'static Kind {
    let listed = KINDS.iter().find(|kind| kind.status == status);
    listed.copied().unwrap_or_else(|| match status {
        StatusCode::REQUEST_TIMEOUT => kind::DEADLINE_EXCEEDED,
        other if other.is_client_error() => kind::BAD_REQUEST,
        _ => kind::INTERNAL,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let codes: HashSet<_> = KINDS.iter().map(|kind| kind.code).collect();
        assert_eq!(codes.len(), KINDS.len());
        for code in codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        }
    }

    #[test]
    fn every_error_status_has_a_kind_of_its_class() {
        for number in 400..600 {
            let status = StatusCode::from_u16(number).unwrap();
            let kind = of_status(status);
            let timeout = kind.code == "deadline_exceeded";
            assert!(timeout || kind.status.is_client_error() == status.is_client_error());
        }
    }
}
