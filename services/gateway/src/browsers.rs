//! What browsers are told about every answer: what they may do with it, and whose pages may read
//! it (CORS, by the Fetch standard). Programs do not look at any of this.

use std::collections::BTreeSet;

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, InvalidHeaderValue, ORIGIN, REFERRER_POLICY,
        STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::config::BrowsersConfig;

/// What a page may send besides what it may send anyway.
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key, traceparent";
/// What a page may read besides what it may read anyway.
const RESPONSE_HEADERS: &str = "location, idempotency-replayed, retry-after, x-trace-id, \
    ratelimit, ratelimit-policy";
/// For how many seconds a page's browser need not ask again.
const REMEMBERED_SECS: u64 = 600;

/// An answer is data for whoever asked: nothing to run, to embed or to guess the type of.
const ALWAYS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What browsers are told.
#[derive(Debug)]
pub(crate) struct Browsers {
    origins: BTreeSet<HeaderValue>,
    hsts: Option<HeaderValue>,
}

impl Browsers {
    /// # Errors
    /// An origin cannot stand in a header. A valid configuration has none of these.
    pub(crate) fn new(config: &BrowsersConfig) -> Result<Self, InvalidHeaderValue> {
        let origins = config.allowed_origins.iter().map(|origin| HeaderValue::from_str(origin));
        let hsts = HeaderValue::from_str(&format!("max-age={}", config.hsts_secs))?;
        Ok(Self {
            origins: origins.collect::<Result<_, _>>()?,
            hsts: (config.hsts_secs > 0).then_some(hsts),
        })
    }

    /// The origin of the page that asks, if its pages may.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<&HeaderValue> {
        self.origins.get(headers.get(ORIGIN)?)
    }

    /// The answer to a browser that asks, on behalf of an allowed page, what it may send.
    pub(crate) fn preflight(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let asks = request.method() == Method::OPTIONS
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        (asks && self.allowed(headers).is_some()).then(|| {
            let answer = [
                (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST")),
                (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS)),
                (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(REMEMBERED_SECS)),
            ];
            (StatusCode::NO_CONTENT, answer).into_response()
        })
    }

    /// Completes the headers of an answer to a page of an allowed origin, or to anybody else.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        for (name, value) in ALWAYS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let Some(hsts) = &self.hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if !self.origins.is_empty() {
            // What is kept for one page must not be given to another.
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let readable = HeaderValue::from_static(RESPONSE_HEADERS);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, readable);
        }
    }
}

/// Whether this is an origin as browsers write it (RFC 6454 section 6.2): what is written in
/// another way would never be equal to theirs.
pub(crate) fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let usual = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => return false,
    };
    let host = authority.host();
    let port = authority.port_u16();
    let place = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let plain =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b':' | b'[' | b']');
    let name = !host.is_empty() && host.bytes().all(plain);
    name && port != usual && text == format!("{scheme}://{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for good in ["https://shop.example", "http://127.0.0.1:3000", "https://[::1]:8443"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/path",
            "https://Shop.example",
            "https://shop.example:443",
            "https://shop.example:0443",
            "https://user@shop.example",
            "https://*.shop.example",
            "ftp://shop.example",
            "https://shop.example https://other.example",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
