//! Problem documents (RFC 9457): the one shape of every error.

mod catalogue;
mod document;

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use portolan_auth::AuthError;
use portolan_kernel::Coded as _;

pub(crate) use catalogue::{KINDS, Kind, kind, of_status};
pub(crate) use document::{FieldError, MEDIA_TYPE, ProblemDocument, render};

const REALM: HeaderValue = HeaderValue::from_static(r#"Bearer realm="portolan""#);
const REALM_INVALID_TOKEN: HeaderValue =
    HeaderValue::from_static(r#"Bearer realm="portolan", error="invalid_token""#);

/// An error on its way to the client. As a response it has no body yet: [`crate::edge`], which
/// every response passes, knows the trace id and writes the document.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Parts>);

/// What a [`Problem`] says; apart from it because results should be small.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// What kind of problem it is.
    pub(crate) code: Cow<'static, str>,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    /// What happened this time: for the caller, nothing internal.
    pub(crate) detail: Cow<'static, str>,
    pub(crate) errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Deref for Problem {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl Problem {
    /// A problem of a kind on our list.
    pub(crate) fn new(kind: &Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(kind.code.into(), kind.status, kind.title, detail.into())
    }

    /// A problem of a kind that another service named, which may be newer than our list.
    pub(crate) fn foreign(code: String, status: StatusCode, detail: String) -> Self {
        let listed = KINDS.iter().find(|kind| kind.code == code);
        let title = listed.map_or_else(|| of_status(status).title, |kind| kind.title);
        Self::of(code.into(), status, title, detail.into())
    }

    fn of(
        code: Cow<'static, str>,
        status: StatusCode,
        title: &'static str,
        detail: Cow<'static, str>,
    ) -> Self {
        let (errors, headers) = (Vec::new(), Vec::new());
        let problem = Self(Box::new(Parts { code, status, title, detail, errors, headers }));
        problem.with_usual_headers()
    }

    /// One field is at fault.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let error = FieldError { field: field.into(), message: message.into() };
        Self::fields(vec![error])
    }

    /// Several fields are at fault.
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("The field {} {}.", only.field, only.message),
            several => format!("{} fields are not acceptable.", several.len()),
        };
        Self::new(kind::VALIDATION_FAILED, detail).with_errors(errors)
    }

    /// There is no such thing, or not for this caller.
    pub(crate) fn not_found() -> Self {
        Self::new(kind::NOT_FOUND, "There is nothing at this address, or not for you.")
    }

    /// Our fault. The cause is logged where it is known.
    pub(crate) fn internal() -> Self {
        Self::new(kind::INTERNAL, "Something went wrong on our side.")
    }

    #[must_use]
    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// When to try again, in seconds.
    #[must_use]
    pub(crate) fn with_retry_after(self, seconds: u32) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.retain(|(existing, _)| *existing != name);
        self.headers.push((name, value));
        self
    }

    /// What the status demands: RFC 9110 sections 11.6.1 and 10.2.3.
    fn with_usual_headers(self) -> Self {
        match self.status {
            StatusCode::UNAUTHORIZED if self.code == "invalid_token" => {
                self.with_header(WWW_AUTHENTICATE, REALM_INVALID_TOKEN)
            }
            StatusCode::UNAUTHORIZED => self.with_header(WWW_AUTHENTICATE, REALM),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                self.with_retry_after(1)
            }
            _ => self,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let mut response = self.status.into_response();
        for (name, value) in std::mem::take(&mut self.headers) {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let kind = match &error {
            AuthError::Missing => kind::UNAUTHENTICATED,
            AuthError::Invalid(_) => kind::INVALID_TOKEN,
            AuthError::KeysUnavailable { .. } => kind::KEYS_UNAVAILABLE,
        };
        let problem = Self::new(kind, error.public_message());
        match error.retry_after_secs() {
            Some(seconds) => problem.with_retry_after(seconds),
            None => problem,
        }
    }
}
